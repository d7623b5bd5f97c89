"""`chat.py`: the published form, messages with pictures, the terminal, exit codes; on the real built-in model."""

from __future__ import annotations

import _thread
import base64
import csv
import io
import itertools
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from chat import MiniCPMVChat, OmniLMMChat, img2base64, main
from omnilmm.archive import to_json
from omnilmm.chat import _published_conversation
from omnilmm.conversation import Conversation, Message
from omnilmm.engine.events import Finished, Preview, TextDelta
from omnilmm.engine.options import options_for
from omnilmm.errors import ImageError, InputError, OptionsError
from omnilmm.images.pixels import open_picture
from omnilmm.prompts import chatml, llama3, minicpm, zephyr
from omnilmm.prompts.messages import conversation_from_dicts
from omnilmm.prompts.pieces import as_text
from omnilmm.ui.streams import read_piped
from omnilmm.ui.terminal import Terminal
from tests.images.real_photo import PHOTO
from tests.programs import modules_after
from tests.waiting import wait_until

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "assets" / "samples"
SAMPLE = yaml.safe_load((SAMPLES / "samples.yaml").read_text())[0]
PICTURE, QUESTION, ANSWER = SAMPLES / SAMPLE["picture"], SAMPLE["question"], SAMPLE["answer"]


@pytest.fixture(scope="module")
def chat() -> OmniLMMChat:
    return OmniLMMChat()


@dataclass
class Passes:
    """Forward passes of the model, each followed by a pause.

    Attributes:
        count: how many there were.
        is_interrupted: from then on each waits until its answer is to end.
    """

    count: int = 0
    is_interrupted: bool = False


@pytest.fixture
def passes(chat: OmniLMMChat) -> Iterator[Passes]:
    passes, scheduler = Passes(), chat.engine.scheduler

    def pause(*_: Any) -> None:
        passes.count += 1
        time.sleep(0.15)
        if passes.is_interrupted:
            wait_until(lambda: all(job.leaving for job in scheduler._running))

    handle = chat.engine.model.llm.register_forward_hook(pause)
    yield passes
    handle.remove()


def asked(text: str, **more: Any) -> dict[str, Any]:
    return {"question": json.dumps([{"role": "user", "content": text}]), **more}


def test_published_form_answers_about_the_picture(chat: OmniLMMChat) -> None:
    assert chat.chat(asked(QUESTION, image=img2base64(PICTURE))) == ANSWER
    assert chat.process(asked(QUESTION, image=img2base64(str(PICTURE)))) == ANSWER


def test_published_form_takes_bytes_and_lists(chat: OmniLMMChat) -> None:
    question = [{"role": "user", "content": QUESTION}]
    assert chat.chat({"image": PICTURE.read_bytes(), "question": question}) == ANSWER


@pytest.mark.parametrize("form", ["line breaks", "newline", "bytes", "data URI", "path", "array"])
def test_published_form_takes_base64_as_it_comes(chat: OmniLMMChat, form: str) -> None:
    text = img2base64(PICTURE)
    with Image.open(PICTURE) as image:
        given = {
            "line breaks": base64.encodebytes(PICTURE.read_bytes()).decode(),
            "newline": text + "\n",
            "bytes": text.encode(),
            "data URI": f"data:image/png;base64,{text}",
            "path": PICTURE,
            "array": np.asarray(image.convert("RGB")),
        }
    assert chat.chat(asked(QUESTION, image=given[form])) == ANSWER


def test_published_form_takes_the_makers_later_messages() -> None:
    """Base64 within the messages, under the name and with the class of their examples."""
    parts = [{"type": "image", "pairs": img2base64(PICTURE)}, {"type": "text", "pairs": QUESTION}]
    later = MiniCPMVChat("built-in")
    assert later.chat({"image": "", "question": json.dumps([{"role": "user", "content": parts}])}) == ANSWER
    typed = [{"role": "user", "content": [{"type": "text", "text": "Look:\n<image>"}, QUESTION]}]
    assert later.chat({"image": img2base64(PICTURE), "question": typed}) == ANSWER


def test_published_form_carries_earlier_turns(chat: OmniLMMChat) -> None:
    turns = [
        {"role": "user", "content": "Describe the picture."},
        {"role": "assistant", "content": "I see a drawing."},
        {"role": "user", "content": QUESTION},
    ]
    assert chat.chat({"image": img2base64(PICTURE), "question": json.dumps(turns)}) == ANSWER


def test_a_typed_image_marks_the_place_of_the_picture(chat: OmniLMMChat) -> None:
    assert chat.chat(asked(f"<image>\n{QUESTION}", image=img2base64(PICTURE))) == ANSWER


@pytest.mark.parametrize("template", [zephyr, minicpm, llama3, chatml], ids=lambda template: template.__name__)
@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("<image>\nRead the text.", "[picture]\nRead the text."),
        ("Read the text.", "[picture]\nRead the text."),
        ("\nRead the text.", "[picture]\n\nRead the text."),
    ],
)
def test_a_typed_image_has_one_line_break_after_it(template: Any, typed: str, shown: str) -> None:
    conversation = _published_conversation(asked(typed, image=img2base64(PICTURE)))
    prompt = as_text(template.render(conversation, [None]), 0)
    prompt = re.sub("(<image_id>0</image_id>)?<image></image>|<im_start><im_end>", "[picture]", prompt)
    assert shown in prompt and shown.replace("]", "]\n") not in prompt


@pytest.mark.parametrize(
    "typed", ["<image>\nWhat?", "<image> What?", "<image>What?", " \n<image>What?", "See <image>?"]
)
def test_12b_replaces_a_typed_image_in_place(typed: str) -> None:
    conversation = _published_conversation(asked(typed, image=img2base64(PICTURE)), in_place=True)
    prompt = as_text(zephyr.render(conversation, [None]), 0)
    assert f"<|user|>\n{typed.replace('<image>', '<im_start><im_end>')}</s>" in prompt


def test_only_12b_gets_the_text_around_a_typed_image_as_it_was_typed(
    chat: OmniLMMChat, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Conversation] = []
    monkeypatch.setattr(chat, "_answer", lambda conversation, *_: given.append(conversation) or [None])
    for family in ("omnilmm", "remote"):
        monkeypatch.setattr(chat.engine, "card", chat.engine.card.model_copy(update={"family": family}))
        chat.chat(asked("<image>What?", image=img2base64(PICTURE)))
    assert [message.parts[0] == "" for (message,) in (each.messages for each in given)] == [True, False]


def test_published_form_works_without_a_picture(chat: OmniLMMChat) -> None:
    assert "simple drawing" in chat.chat(asked("Hello"))


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"question": "no json"}, InputError, "no JSON"),
        ({"question": json.dumps({"role": "user"})}, InputError, "list of"),
        ({"question": json.dumps([{"role": "user", "content": 3}])}, InputError, "list of"),
        ({}, InputError, "list of"),
        (asked("hi", image="not base64!"), ImageError, "img2base64"),
        (asked("hi", image="photo.png"), ImageError, "img2base64"),
        (asked("hi", image="https://a.b/c.png"), ImageError, "img2base64"),
        (asked("hi", image=7), ImageError, "got int"),
        (asked("hi", image=base64.b64encode(b"no picture").decode()), ImageError, "not a picture"),
        (asked("   "), InputError, "empty"),
        ({"question": json.dumps([{"role": "assistant", "content": "x"}])}, InputError, "user first"),
    ],
)
def test_published_form_refuses_clearly(chat: OmniLMMChat, given: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        chat.chat(given)


@pytest.mark.parametrize("form", ["path", "bytes", "PIL", "array", "file", "image_url"])
def test_stream_takes_pictures_inside_messages(chat: OmniLMMChat, form: str) -> None:
    with Image.open(PICTURE) as image:
        forms: dict[str, Any] = {
            "path": PICTURE,
            "bytes": PICTURE.read_bytes(),
            "PIL": image,
            "array": np.asarray(image),
            "file": io.BytesIO(PICTURE.read_bytes()),
            "image_url": {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{img2base64(PICTURE)}"}},
        }
        picture = forms[form]
        pieces = list(chat.stream([{"role": "user", "content": [picture, QUESTION]}]))
    assert "".join(pieces) == ANSWER


def test_stream_has_the_first_words_before_the_model_has_the_last(chat: OmniLMMChat) -> None:
    passes, heard = itertools.count(), threading.Event()

    def wait(*_: object) -> None:
        if next(passes) > 2:
            assert heard.wait(60)

    hook = chat.engine.model.llm.register_forward_pre_hook(wait)
    try:
        pieces = chat.stream([{"role": "user", "content": [PICTURE, QUESTION]}])
        first = next(pieces)
        heard.set()
        rest = "".join(pieces)
    finally:
        hook.remove()
    assert first and rest and first + rest == ANSWER


def test_stream_with_beam_search_gives_the_winner_once(chat: OmniLMMChat) -> None:
    message = {
        "role": "user",
        "content": [{"type": "image", "image": str(PICTURE)}, {"type": "text", "text": QUESTION}],
    }
    assert list(chat.stream([message], mode="beam")) == [ANSWER]
    assert any(isinstance(event, Preview) for event in chat.events([message], mode="beam"))


def test_temperature_0_is_greedy_whatever_the_seed(chat: OmniLMMChat) -> None:
    message = {"role": "user", "content": [PICTURE, "Describe the picture."]}
    model, processor = chat.engine.model, chat.engine.processor
    inputs = processor.inputs(conversation_from_dicts([message]))
    greedy = {"do_sample": False, "max_new_tokens": 40, "eos_token_id": processor.stop_ids, "pad_token_id": 0}
    for penalty in (1.0, 1.5):
        ids = model.generate(**inputs, **greedy, repetition_penalty=penalty)[0].tolist()
        expected = processor.tokenizer.decode(ids, skip_special_tokens=True)
        options = {"temperature": 0, "max_new_tokens": 40, "repetition_penalty": penalty}
        for more in ({}, {"seed": 1}, {"seed": 2, "top_p": 0.2, "top_k": 1}):
            assert "".join(chat.stream([message], **options, **more)) == expected
        assert "".join(chat.stream([message], "greedy", max_new_tokens=40, repetition_penalty=penalty)) == expected


def test_options_of_the_other_mode_are_refused(chat: OmniLMMChat) -> None:
    with pytest.raises(OptionsError, match="temperature"):
        next(chat.stream([{"role": "user", "content": "hi"}], mode="beam", temperature=0.5))


def test_events_end_with_the_whole_answer(chat: OmniLMMChat) -> None:
    *events, last = chat.events([{"role": "user", "content": [PICTURE, QUESTION]}])
    assert isinstance(last, Finished)
    assert last.text == "".join(event.text for event in events if isinstance(event, TextDelta))
    assert last.usage.picture_tokens > 0


def terminal(chat: OmniLMMChat, *lines: str) -> Terminal:
    """A terminal after these lines were typed."""
    typed = iter(lines)

    def read(_: str) -> str:
        try:
            return next(typed)
        except StopIteration:
            raise EOFError from None

    screen = Terminal(chat.engine, options_for(chat.engine.card), out=io.StringIO(), notes=io.StringIO())
    screen.run(read)
    return screen


def shown(stream: Any) -> str:
    assert isinstance(stream, io.StringIO)
    return stream.getvalue()


def test_terminal_answers_and_keeps_the_picture_for_later_turns(chat: OmniLMMChat) -> None:
    screen = terminal(chat, f"/image {PICTURE}", QUESTION, QUESTION)
    assert shown(screen.out) == f"{ANSWER}\n{ANSWER}\n"
    assert "tokens/s" in shown(screen.notes)
    assert [len(message.pictures) for message in screen.conversation.messages] == [1, 0, 0, 0]


def test_terminal_retry_replaces_the_last_answer_and_undo_forgets_it(chat: OmniLMMChat) -> None:
    screen = terminal(chat, f"/image {PICTURE}", QUESTION, "/retry")
    assert [message.text for message in screen.conversation.messages] == [QUESTION, ANSWER]
    assert len(screen.conversation.pictures) == 1
    screen.handle("/undo")
    assert screen.conversation == Conversation()


def test_terminal_saves_the_conversation(chat: OmniLMMChat, tmp_path: Path) -> None:
    file = tmp_path / "talk.json"
    terminal(chat, f"/image {PICTURE}", QUESTION, f"/save {file}")
    saved = json.loads(file.read_text())
    assert saved["messages"][1]["content"] == [{"type": "text", "text": ANSWER}]
    assert saved["model"] == chat.engine.card.title
    picture = open_picture(base64.b64decode(saved["messages"][0]["content"][0]["image"]))
    assert picture == open_picture(PICTURE)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("/image /no/such/file.png", "No such picture"),
        ("/retry", "no question yet"),
        ("/undo", "no question yet"),
        ("/save", "/save FILE"),
        ("/load", "/load FILE"),
        ("/load /no/such/file.json", "No such file or directory"),
        (f"/load {PICTURE}", "not an exported conversation"),
        ("/save /no/such/folder/x.json", "No such file or directory"),
        ("", "empty"),
        ("/nonsense", "Commands:"),
    ],
)
def test_terminal_explains_and_goes_on(chat: OmniLMMChat, line: str, says: str) -> None:
    screen = terminal(chat, line, f"/image {PICTURE}", QUESTION)
    assert says in shown(screen.notes)
    assert shown(screen.out).endswith(f"{ANSWER}\n")


def test_a_saved_conversation_is_loaded_again_and_goes_on(chat: OmniLMMChat, tmp_path: Path) -> None:
    file = tmp_path / "talk.json"
    saved = terminal(chat, f"/image {PICTURE}", QUESTION, f"/save {file}")
    loaded = terminal(chat, f"/load {file}", QUESTION)
    assert loaded.conversation.messages[:2] == saved.conversation.messages
    assert loaded.conversation.messages[3].text == ANSWER
    assert "Loaded 2 messages with 1 pictures" in shown(loaded.notes)


def test_clear_makes_room_for_another_picture(chat: OmniLMMChat) -> None:
    other = SAMPLES / "heart.png"
    screen = terminal(chat, f"/image {PICTURE}", QUESTION, "/clear", f"/image {other}", "Is there a heart?")
    assert len(screen.conversation.messages) == 2
    assert screen.conversation.pictures == (open_picture(other),)


def test_a_failed_turn_leaves_the_terminal_as_it_was(chat: OmniLMMChat) -> None:
    screen = terminal(chat, f"/image {PICTURE}", QUESTION, "/system Be brief.", "And now?")
    assert "no system prompt" in shown(screen.notes)
    assert len(screen.conversation.messages) == 2
    screen.handle("/system")
    screen.handle(QUESTION)
    assert screen.conversation.messages[-1] == Message("assistant", (ANSWER,))


def test_ctrl_c_stops_the_answer_and_keeps_what_was_said(chat: OmniLMMChat, passes: Passes) -> None:
    at_interrupt: list[int] = []

    class Screen(io.StringIO):
        def write(self, text: str) -> int:
            written = super().write(text)
            if text and not at_interrupt:
                passes.is_interrupted = True
                at_interrupt.append(passes.count)
                _thread.interrupt_main()
            return written

    screen = Terminal(chat.engine, options_for(chat.engine.card), out=Screen(), notes=io.StringIO())
    screen.handle(f"/image {PICTURE}")
    assert screen.ask("Describe the picture.") is None
    assert passes.count <= at_interrupt[0] + 1
    assert "(stopped)" in shown(screen.notes)
    partial = screen.conversation.messages[-1].text
    assert partial
    assert shown(screen.out).startswith(partial)


def run(
    *arguments: str | bytes, stdin: bytes = b"", program: str = "chat.py", **environment: str
) -> subprocess.CompletedProcess[bytes]:
    """The program in a process of its own; nothing is inherited that tells which encoding to use."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "LC_", "LANG"))}
    return subprocess.run(
        [sys.executable, program, *arguments],
        cwd=ROOT,
        input=stdin,
        capture_output=True,
        env=clean | {"LC_ALL": "C.UTF-8"} | environment,
        check=False,
    )


def test_command_line_streams_the_answer_to_stdout_and_notes_to_stderr() -> None:
    """Also of a question that is piped in, and into an output of ASCII."""
    question, answer = SAMPLE["question_zh"], SAMPLE["answer_zh"]
    done = run("--image", str(PICTURE), stdin=f"\n{question}\n".encode(), PYTHONIOENCODING="ascii:strict")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{answer}\n".encode("ascii", "backslashreplace") and b"\\u" in done.stdout
    assert b"tokens/s" in done.stderr and b"photo" not in done.stderr
    assert b"> " not in done.stderr and b"/image" not in done.stderr, "no prompt of a chat, nor its commands"


class Pipe(io.TextIOWrapper):
    def __init__(self, content: bytes, encoding: str = "utf-8", is_terminal: bool = False) -> None:
        super().__init__(io.BytesIO(content), encoding=encoding)
        self.is_terminal = is_terminal

    def isatty(self) -> bool:
        return self.is_terminal


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        ("图中有什么？\r\n".encode(), "utf-8"),
        ("图中有什么？".encode("utf-8-sig"), "cp1252"),
        ("图中有什么？\n".encode("utf-16"), "utf-8"),
        ("图中有什么？\n".encode("gbk"), "gbk"),
        ("图中有什么？\n".encode(), "gbk"),  # by its own terminal's words it would be another text
    ],
)
def test_what_is_piped_in_is_read_in_the_encoding_it_has(
    monkeypatch: pytest.MonkeyPatch, content: bytes, encoding: str
) -> None:
    monkeypatch.setattr(sys, "stdin", Pipe(content, encoding))
    assert read_piped() == "图中有什么？"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b" \n", "no question"),
        ("你好".encode("gbk"), r"not text in UTF-8 \(byte 0xC4\)"),
        (b"x" * (2**24 + 1), "16 MiB"),
    ],
)
def test_what_is_no_question_is_refused_before_a_model_is_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], content: bytes, says: str
) -> None:
    monkeypatch.setattr(sys, "stdin", Pipe(content))
    monkeypatch.setattr("chat.OmniLMMChat", None)
    assert main([]) == 1
    captured = capsys.readouterr()
    assert re.search(says, captured.err) and captured.err.count("\n") == 1 and not captured.out


def test_a_question_may_be_piped_in_and_the_answer_is_all_that_comes_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", Pipe(f"\n{QUESTION}\n".encode()))
    assert main(["--image", str(PICTURE), "-"]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{ANSWER}\n" and ">" not in captured.err and "/image" not in captured.err


def test_without_a_terminal_and_without_a_pipe_there_is_no_question(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert main([]) == 1
    assert "There is no question" in capsys.readouterr().err


def test_prompts_stay_out_of_a_file_that_takes_the_answers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", Pipe(b"/clear\n/quit\n", is_terminal=True))
    assert main([]) == 0
    captured = capsys.readouterr()
    assert captured.out == "" and "> " in captured.err and "Forgotten." in captured.err


CHINESE = "你好"


def into(monkeypatch: pytest.MonkeyPatch, encoding: str, *arguments: str) -> tuple[int, bytes, str]:
    """Exit code and output of the program where its streams have this encoding."""
    out, notes = (io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2))
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", notes)
        code = main([*arguments])
    for stream in (out, notes):
        stream.flush()
    return code, out.buffer.getvalue(), notes.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_what_an_output_cannot_show_is_escaped(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    code, answer, notes = into(monkeypatch, "utf-8", CHINESE)
    said = answer.decode()
    assert code == 0 and not said.isascii() and "escapes" not in notes
    code, escaped, notes = into(monkeypatch, encoding, CHINESE)
    assert code == 0 and escaped == said.encode(encoding, "backslashreplace")
    assert f"the output is in {encoding}, which does not have them" in notes
    _, as_json, _ = into(monkeypatch, encoding, "--json", CHINESE)
    assert json.loads(as_json)["text"] == said.strip()
    _, refused, _ = into(monkeypatch, encoding, "--json", "--image", f"{CHINESE}.png", "?")
    assert f"{CHINESE}.png" in json.loads(refused)["error"]


def test_both_pages_speak_into_an_output_of_ascii() -> None:
    """What each says of a flag."""
    doors = ("web_demo.py", "web_demo_streamlit.py")
    refused = [run("--model", "图", program=door, PYTHONIOENCODING="ascii") for door in doors]
    assert [done.returncode for done in refused] == [2, 2]
    assert all(b"\\u56fe" in done.stderr and b"Traceback" not in done.stderr for done in refused)


def test_a_reader_who_goes_away_ends_the_program_quietly() -> None:
    command = [sys.executable, "chat.py", "--image", str(PICTURE), "Describe the picture."]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        assert program.stdout and program.stderr
        program.stdout.close()
        said = program.stderr.read()
    assert program.returncode == 1 and said == b""


@pytest.mark.parametrize(
    "arguments",
    [
        ["你好".encode("gbk")],
        ["--system", "你好".encode("gbk"), "hi"],
        ["--json", "你好".encode("gbk")],
    ],
)
def test_bytes_that_are_no_text_are_refused(arguments: list[str | bytes]) -> None:
    done = run(*arguments)
    assert done.returncode == 1
    said = json.loads(done.stdout)["error"] if "--json" in arguments else done.stderr.decode()
    assert "is not text in UTF-8 (byte 0xC4)" in said and said.count("\n") <= 1 and "such as GBK" in said


def test_half_a_character_is_replaced(chat: OmniLMMChat) -> None:
    """As scripts may have it in JSON; the answer is that to the question with the sign for it."""
    whole = chat.chat(asked(f"{QUESTION} \N{REPLACEMENT CHARACTER}", image=img2base64(PICTURE)))
    assert chat.chat(asked(f"{QUESTION} \ud83d", image=img2base64(PICTURE))) == whole
    screen = terminal(chat, f"/image {PICTURE}", "Hello \udcb0", QUESTION)
    assert "is not text" in shown(screen.notes) and shown(screen.out) == f"{ANSWER}\n"


def test_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--json", "--image", str(PICTURE), QUESTION]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["text"], answer["reason"], answer["model"]) == (ANSWER, "end", "built-in")
    assert main(["--json", "--image", "/no/such.png", QUESTION]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["type"], told["code"]) == ("ImageError", "no_picture_file")
    assert main(["--json", "--image", str(PHOTO), "What is it?"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["text"] and "looks like a photo" in shown.err


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--image", "/no/such.png", "hi"], 1, "No such picture"),
        (["--image", str(SAMPLES), "hi"], 1, "is a folder: give the path of a picture file"),
        (["--image", "", "hi"], 1, "name of the picture file is empty"),
        (["--image", "a\nb.png", "hi"], 1, "No such picture file: a b.png"),
        (["--image", "chat.py", "hi"], 1, "not a picture"),
        (["--load", str(SAMPLES), "hi"], 1, "No conversation can be read"),
        (["--load", "/no/such.json", "hi"], 1, "No conversation can be read"),
        ([""], 1, "The question is empty"),
        ([" \n\t"], 1, "The question is empty"),
        (["--model", "", "hi"], 2, "There is no model"),
        (["--model", str(SAMPLES), "hi"], 1, "no config.json"),
        (["--model", "a\nb", "hi"], 2, "There is no model"),
        (["--device", "", "hi"], 2, "device"),
        (["--dtype", "fp7", "hi"], 2, "fp7"),
        (["--max-memory", "much", "hi"], 2, "much"),
        (["--temperature", "nan", "hi"], 2, "temperature must be a number from 0 to 2"),
        (["--model", "minicpm-v-2.7", "hi"], 2, "Did you mean minicpm-v-4.7 or minicpm-v-2.6"),
        (["--device", "cuda:9", "hi"], 2, "Try --device auto"),
        (["--device", "tpu", "hi"], 2, "Unknown device"),
        (["--temperature", "-1", "hi"], 2, "temperature must be a number from 0 to 2"),
        (["--mode", "beam", "--top-k", "5", "hi"], 2, "No option of beam: top_k"),
        (["--batch", "/no/such", "hi"], 1, "cannot be read: No such file"),
        (["--batch", str(SAMPLES)], 1, "there is no question"),
        (["--batch", str(SAMPLES), "hi", "--out", "a.xlsx"], 1, "written as .jsonl or .csv"),
        (["--batch", str(SAMPLES), "hi", "--out", "/no/such/a.csv"], 1, "no folder /no/such"),
    ],
)
def test_exit_codes_and_one_line_of_reason(
    capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, says: str
) -> None:
    assert main(arguments) == code
    captured = capsys.readouterr()
    assert says in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--no-such-flag"],
        ["--json"],
        ["--seed", "x", "hi"],
        ["--image"],
        ["a", "b"],
        ["--ocr", "hi"],
        ["--out", "a.csv", "hi"],
        ["--batch", ".", "--image", "a", "hi"],
        ["--batch", ".", "--at-once", "0", "hi"],
    ],
)
def test_flags_that_cannot_be_read_exit_with_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", Pipe(b"", is_terminal=True))
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert ": error: " in said and said.count("\n") == 1 and "--help" in said


def test_help_is_light() -> None:
    assert not modules_after("chat.py", "--help") & {"torch", "transformers", "gradio", "streamlit"}


def test_the_command_line_goes_on_with_an_exported_conversation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "talk.json"
    talk = Conversation().with_message("user", open_picture(PICTURE), "Hello").with_message("assistant", "Hi.")
    file.write_text(to_json(talk))
    assert main(["--json", "--load", str(file), QUESTION]) == 0
    assert json.loads(capsys.readouterr().out)["text"] == ANSWER


def test_one_question_about_many_pictures(chat: OmniLMMChat, tmp_path: Path) -> None:
    pictures = [PICTURE, str(PICTURE), PICTURE.read_bytes(), "none.png", Image.open(PICTURE)]
    replies = list(chat.map(pictures, QUESTION, "greedy", at_once=2))
    assert [reply.text for reply in replies] == [ANSWER, ANSWER, ANSWER, "", ANSWER]
    assert isinstance(replies[3].error, ImageError) and replies[3].number == 3
    hello, about = chat.map([PICTURE, PICTURE], ["Hello", QUESTION], temperature=0)
    assert hello.text != about.text == ANSWER
    with pytest.raises(InputError, match="after 1"):
        list(chat.map([PICTURE], [QUESTION, QUESTION]))
    with pytest.raises(OptionsError, match="beams"):
        chat.map([PICTURE], QUESTION, beams=3)


def test_a_batch_in_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "list.csv").write_text(f"picture,question\n{PICTURE},{QUESTION}\n{SAMPLES / 'word.png'},\nno.png,\n")
    out = tmp_path / "answers.csv"
    assert main(["--batch", str(tmp_path / "list.csv"), "--ocr", "--out", str(out)]) == 1
    with out.open(encoding="utf-8-sig", newline="") as file:
        colour, word, missing = csv.DictReader(file)
    assert colour["answer"] == ANSWER and "SUN" in word["answer"]
    assert (
        word["question"] == "What does it say?"
        and "Greedy" in word["options"]
        and "dtype fp32" in word["options"]
        and word["model"] == "built-in"
    )
    assert "No such picture" in missing["error"]
    said = capsys.readouterr().err
    assert "3/3" in said and "1 of 3 have no answer" in said
