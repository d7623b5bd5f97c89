"""What is kept between questions: features of pictures, the KV cache of conversations; bounded in bytes."""
