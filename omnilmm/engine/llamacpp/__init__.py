"""llama.cpp in a child process of ours, for GGUF models; it is asked through the remote engine.

files (the pair of GGUFs) ──> header (sizes, without loading) ──> child ──> serving (llama.cpp's HTTP server)
                                                                   └── remote engine ──> http://127.0.0.1:random/v1
"""
