"""Compares an export with the checkpoint: the answers of both engines to the sample questions, and the features.

llama.cpp cuts pictures in another way (`engine.llamacpp.slicing`), so each sample is asked twice: as it is, and as a
square of a slice's size, which both take as it comes.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import torch
from PIL import Image

from omnilmm.conversation import Conversation
from omnilmm.engine.llamacpp.child import LlamaServer, Settings
from omnilmm.engine.llamacpp.slicing import plan
from omnilmm.engine.local import LocalEngine
from omnilmm.engine.options import Sampling
from omnilmm.export.features import features, of_model
from omnilmm.export.to_gguf import Exported
from omnilmm.images.pixels import cut, open_picture
from omnilmm.models.config import MiniCPMVConfig
from omnilmm.ui.samples import samples

LENGTH = 100  # tokens of an answer


@dataclass(frozen=True)
class Compared:
    """One question, and what both engines answer greedily.

    Attributes:
        picture: name of its file.
        is_square: whether the picture was made a square, which both engines take alike.
        question: the question.
        ours, theirs: the answers of the checkpoint in our engine and of the export in llama.cpp.
    """

    picture: str
    is_square: bool
    question: str
    ours: str
    theirs: str

    @property
    def is_equal(self) -> bool:
        """Whether the answers are equal."""
        return self.ours == self.theirs


def compare(
    engine: LocalEngine, exported: Exported, languages: tuple[str, ...] = ("en", "zh"), threads: int = 0
) -> Iterator[Compared]:
    """Ask both engines the sample questions, one after the other.

    Args:
        engine: the checkpoint in our engine.
        exported: its export.
        languages: "en", "zh", or both.
        threads: of llama.cpp; 0 for one per physical core.
    """
    config: MiniCPMVConfig = engine.backend.model.config
    side = config.slicing_rules.scale_resolution
    settings = Settings(str(exported.model), str(exported.mmproj), exact=True, threads=threads)
    with closing(Asker(settings)) as other:
        for sample in samples():
            image = Image.open(sample.picture).convert("RGB")
            for is_square, shown in ((False, image), (True, image.resize((side, side)))):
                for question in map(sample.asked_in, languages):
                    yield Compared(
                        sample.picture.name,
                        is_square,
                        question,
                        _ours(engine, shown, question),
                        other.ask(shown, question),
                    )


def worst_cosine(engine: LocalEngine, exported: Exported, threads: int = 0) -> float:
    """Return the lowest cosine of a picture feature of both engines, over pictures that both cut alike.

    Args:
        engine: the checkpoint in our engine; its features are computed in its dtype.
        exported: its export.
        threads: of llama.cpp; 0 for one per physical core.
    """
    model = engine.backend.model
    config: MiniCPMVConfig = model.config
    side, patch = config.slicing_rules.scale_resolution, config.slicing_rules.patch_size
    width, worst = config.text_config.hidden_size, 1.0
    with TemporaryDirectory() as folder:
        for columns in (1, 2):
            size = (side * columns, side)
            image = Image.open(samples()[0].picture).convert("RGB").resize(size)
            views = cut(image, config.plan(size))
            if [view.size for view in views] != plan(size, side, patch).sizes:
                continue
            theirs = features(
                exported.mmproj, Path(folder), image, config.query_num, width, columns, len(views), threads
            )
            worst = min(worst, float(torch.cosine_similarity(of_model(model, image), theirs, dim=2).min()))
    return worst


def _ours(engine: LocalEngine, image: Image.Image, question: str) -> str:
    conversation = Conversation().with_message("user", open_picture(image), question)
    greedy = Sampling(temperature=0.0, repetition_penalty=1.0, max_new_tokens=LENGTH)
    *_, last = engine.stream(conversation, greedy)
    return str(getattr(last, "text", "")).strip()


class Asker:
    """Asks a llama.cpp of its own.

    Args:
        settings: of its server.
    """

    def __init__(self, settings: Settings) -> None:
        self.server = LlamaServer(settings)
        headers = {"Authorization": f"Bearer {self.server.key}"}
        self.client = httpx.Client(base_url=self.server.url, headers=headers, timeout=3600, trust_env=False)

    def close(self) -> None:
        """End the server."""
        self.client.close()
        self.server.stop()

    def ask(self, image: Image.Image | None, question: str, length: int = LENGTH) -> str:
        """Return the greedy answer to a question about a picture, or about none."""
        content: list[dict[str, Any]] = [{"type": "text", "text": question}]
        if image is not None:
            file = io.BytesIO()
            image.save(file, "png")
            address = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
            content.insert(0, {"type": "image_url", "image_url": {"url": address}})
        body: dict[str, Any] = {"messages": [{"role": "user", "content": content}], "temperature": 0}
        body["chat_template_kwargs"] = {"enable_thinking": False}  # which our engine does not either
        answer = self.client.post("/v1/chat/completions", json=body | {"max_tokens": length}).raise_for_status()
        return str(answer.json()["choices"][0]["message"]["content"]).strip()
