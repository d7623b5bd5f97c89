"""The widgets of the Gradio page, each with a function that returns its texts in a language: `localize`."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import gradio as gr
from pydantic import Field

from omnilmm.catalog import ModelCard
from omnilmm.engine.choosing import ListedModel
from omnilmm.engine.options import MODES, Mode
from omnilmm.images.formats import UPLOADS, VIDEO_UPLOADS
from omnilmm.ui import model_lines
from omnilmm.ui.controls import Control, length_control, mode_controls, modes_of, slices_control
from omnilmm.ui.gradio_page.events import Box, Name
from omnilmm.ui.markup import clip_recorder, live_view, past_chats
from omnilmm.ui.offer import choosable
from omnilmm.ui.samples import Sample, samples
from omnilmm.ui.texts import CODES, ENGLISH, Texts, texts_in

CHANGING_POLL_S, IDLE_POLL_S = 0.5, 3.0  # polling interval for the model's status: during a change, and otherwise
LATEX = [
    {"left": "$$", "right": "$$", "display": True},
    {"left": "\\[", "right": "\\]", "display": True},
    {"left": "\\(", "right": "\\)", "display": False},
]  # no single $: in answers it is a price more often than a formula

Localize = Callable[[Texts], dict[str, Any]]


class Widgets:
    """All widgets of the page, created inside a `gr.Blocks`.

    Args:
        card: the model that answers at first.
        switches: whether visitors can choose another model.
        is_live: whether there is a live view.
    """

    def __init__(self, card: ModelCard, *, switches: bool, is_live: bool = False) -> None:
        # Served from where they are: a copy among the uploads would be deleted with an upload of the same picture.
        gr.set_static_paths([sample.picture for sample in samples()])
        self.localized: list[tuple[Any, Localize]] = []
        with gr.Row(elem_id="top"):
            with gr.Column(elem_id="head"):
                self.header = gr.HTML(elem_id="header")
                self.cancel_change = self._button("cancel_change", visible=False)
            languages = [(texts_in(code).language, code) for code in CODES]
            self.language = self._add(
                gr.Radio,
                lambda texts: {"label": texts.language_label, "value": texts.code},
                choices=languages,
                elem_id="language",
                show_label=False,
                container=False,
            )
        self.timer = gr.Timer(CHANGING_POLL_S)  # on every page, since any visitor may choose another model
        with gr.Row(elem_id="page"):
            with gr.Column(scale=3, min_width=340, elem_id="talk"):
                self._talk(card, is_live)
            with gr.Column(scale=1, min_width=280, elem_id="side"):
                self._side(card, switches)
        self._hidden()

    def _add(self, kind: Any, localize: Localize, **fixed: Any) -> Any:
        widget = kind(**localize(ENGLISH), **fixed)
        self.localized.append((widget, localize))
        return widget

    def _talk(self, card: ModelCard, is_live: bool) -> None:
        self.chat = self._add(
            gr.Chatbot,
            lambda texts: {"label": texts.title},
            elem_id="chat",
            show_label=False,
            buttons=["copy"],
            group_consecutive_messages=False,  # so that the copy button of an answer copies the answer alone
            latex_delimiters=LATEX,
            layout="bubble",
            height=None,
            autoscroll=False,  # the page's script does it: Gradio's pulls down a reader who is near the end
        )
        self.newest = self._button("newest")  # the page's script shows both when the visitor has scrolled away
        self.stop_anywhere = self._add(
            gr.Button, lambda texts: {"value": texts.stop}, size="sm", elem_id="stop-anywhere"
        )
        self.notice = gr.HTML(elem_id="notice")
        self._add(gr.HTML, lambda texts: {"value": live_view(texts)}, visible=is_live, padding=False)
        self.box = self._add(
            gr.MultimodalTextbox,
            lambda texts: {"label": texts.question, "placeholder": texts.question_placeholder},
            elem_id="question",
            file_count="multiple",
            file_types=[*UPLOADS, *VIDEO_UPLOADS],
            show_label=False,
            max_plain_text_length=1_000_000,  # a long question stays text
            autofocus=True,
        )
        with gr.Row(elem_id="actions"):
            self.cancel = self._button("cancel", visible=False)
            self.continue_answer = self._button("continue_answer", visible=False)
            self.regenerate = self._button("regenerate")
            self.undo = self._button("undo")
            self.camera = self._button("camera", visible=card.pictures)
            self.open_live = self._add(
                gr.Button, lambda texts: {"value": texts.live["open"]}, size="sm", elem_id="live-open", visible=is_live
            )
            self.clear = self._button("clear")
        with gr.Column(visible=False, elem_id="camera-panel") as self.camera_panel:
            self.photo = self._add(
                gr.Image,
                lambda texts: {"label": texts.take_photo},
                elem_id="photo",
                sources=["webcam"],
                type="filepath",
                format="jpeg",
                height=360,
                webcam_options=gr.WebcamOptions(mirror=False),
            )
            self.clip = self._add(
                gr.HTML, lambda texts: {"value": clip_recorder(texts)}, visible=card.video, padding=False
            )
        with gr.Row(elem_id="samples", visible=card.pictures) as self.samples_row:
            self.samples = [(sample, self._sample(sample)) for sample in samples()]

    def _button(self, name: str, **more: Any) -> Any:
        localize = lambda texts: {"value": getattr(texts, name)}  # noqa: E731
        return self._add(gr.Button, localize, size="sm", elem_id=name.replace("_", "-"), **more)

    def _sample(self, sample: Sample) -> Any:
        localize = lambda texts: {"value": sample.asked_in(texts.code)}  # noqa: E731
        return self._add(gr.Button, localize, icon=sample.picture, elem_classes="sample")

    def _side(self, card: ModelCard, switches: bool) -> None:
        with self._add(gr.Accordion, lambda texts: {"label": texts.settings}, elem_id="settings"):
            self._settings(card)
        self.seen_panel = self._add(
            gr.Accordion, lambda texts: {"label": texts.seen}, elem_id="seen-panel", open=False, visible=card.pictures
        )
        with self.seen_panel:
            self.seen = gr.HTML(elem_id="seen")
        with self._add(gr.Accordion, lambda texts: {"label": texts.export}, elem_id="files", open=False):
            self.export_json = self._button("export_json")
            self.export_markdown = self._button("export_markdown")
            self.upload = self._add(
                gr.UploadButton,
                lambda texts: {"label": texts.import_chat},
                size="sm",
                elem_id="import",
                file_types=[".json"],
            )
        with self._add(gr.Accordion, lambda texts: {"label": texts.past["title"]}, elem_id="past", open=False):
            self._add(gr.HTML, lambda texts: {"value": past_chats(texts)})
        with self._add(
            gr.Accordion, lambda texts: {"label": texts.model}, elem_id="models", open=False, visible=switches
        ):
            self.best = gr.Button(visible=False, size="sm", elem_id="best-model")
            self.best_reason = gr.HTML(visible=False, elem_id="best-reason")
            self.picker = self._add(gr.Dropdown, lambda texts: {"label": texts.model}, elem_id="picker")
            localize: Localize = lambda texts: {"label": texts.dtype}  # noqa: E731
            self.dtype = self._add(gr.Dropdown, localize, elem_id="dtype", filterable=False)
            self.switch = self._button("switch")
        with self._add(gr.Accordion, lambda texts: {"label": texts.about_model}, elem_id="about", open=False):
            self.about = gr.Markdown(ENGLISH.about(card))

    def _settings(self, card: ModelCard) -> None:
        localize: Localize = lambda texts: {"label": texts.system_prompt, "info": texts.system_prompt_help}  # noqa: E731
        self.system = self._add(gr.Textbox, localize, elem_id="system", lines=2, visible=card.system_prompt)
        self.mode = self._add(
            gr.Radio,
            lambda texts: {
                "label": texts.decode_type,
                "choices": [(label, mode) for mode, label in texts.modes.items()],
            },
            value="sampling",
            elem_id="mode",
        )
        self.thinking = self._add(
            gr.Checkbox,
            lambda texts: {"label": texts.thinking_switch, "info": texts.thinking_help},
            elem_id="thinking",
            **_switched(card),
        )
        self.finer_detail = self._add(
            gr.Checkbox,
            lambda texts: {"label": texts.finer_detail, "info": texts.finer_detail_help},
            elem_id="finer-detail",
            value=False,
            visible=card.finer_detail,
        )
        self.columns: list[Any] = []
        self.controls: list[tuple[Mode | None, str, Any]] = []
        for mode in MODES:
            with gr.Column(visible=mode == "sampling", elem_id=f"{mode}-controls") as column:
                for control in mode_controls(card, mode):
                    self.controls.append((mode, control.name, _control(control, visible=control.is_shown)))
            self.columns.append(column)
        length = length_control(card)
        self.controls.append((None, length.name, _control(length)))
        slices = slices_control(card)
        self.slices = _control(slices, visible=card.max_slices is not None)
        self.controls.append((None, slices.name, self.slices))
        self.reset = self._button("reset")

    def _hidden(self) -> None:
        """Create the widgets that exchange data between the page's script and the handlers; see `assets/page.js`."""
        self.shown = gr.Number(0, visible=False)  # messages on the page: the server may have lost them
        self.editing = gr.Number(-1, visible=False, precision=0)  # message that the next question replaces
        self.browser_state = gr.Textbox(visible=False)  # what the browser stores
        self.chosen_language = gr.Textbox(visible=False)
        self.number = gr.Number(0, visible=False, precision=0)  # of the clicked picture or pencil
        self.file = gr.JSON(visible=False)  # an export, to be saved by the browser
        self.full = gr.Textbox(visible=False)  # a picture at full size
        self.refused = gr.JSON(visible=False)  # names of files that are not pictures
        self.bad = gr.JSON(visible=False)  # files in the question box that cannot be used
        self.record, self.previous_record = (
            gr.JSON(visible=False),
            gr.JSON(visible=False),
        )  # chats for the browser to store
        self.has = gr.JSON(visible=False)  # names of its pictures that the browser has
        self.opened = gr.JSON(visible=False)  # a stored chat
        self.live_name = gr.Textbox(visible=False)  # of the live view that asks
        self.live_turn = gr.Number(-1, visible=False, precision=0)  # in which it was heard; -1 if it was typed
        self.live_same = gr.Checkbox(visible=False)  # the camera shows what it showed at the last question
        self.live_question = gr.JSON(visible=False)
        self.live = [self.live_name, self.live_turn, self.live_same, self.live_question]
        self.ask_live = gr.Button(visible="hidden", elem_id="do-live")
        self.keep = gr.Button(visible="hidden", elem_id="do-keep")
        self.open_past = gr.Button(visible="hidden", elem_id="do-open-past")
        self.edit = gr.Button(visible="hidden", elem_id="do-edit")
        self.open = gr.Button(visible="hidden", elem_id="do-open")
        self.show_slices = gr.Button(visible="hidden", elem_id="do-show-slices")
        self.refuse = gr.Button(visible="hidden", elem_id="do-refuse")
        self.dismiss = gr.Button(visible="hidden", elem_id="do-dismiss")
        self.take_offer = gr.Button(visible="hidden", elem_id="do-take-offer")

    @property
    def kinds(self) -> dict[Any, Any]:
        """Return the types of widgets whose values differ from others of their class; see `events.KINDS`."""
        names = Annotated[list[Name], Field(max_length=10_000)] | None
        return {self.refused: names, self.has: names, self.language: Literal[CODES], self.mode: Literal[MODES]} | {
            self.live_question: Box
        }

    # --- updates ------------------------------------------------------------------------------------------------------

    def localize(self, texts: Texts, card: ModelCard) -> dict[Any, Any]:
        """Return updates that put every widget into another language; values stay."""
        updates = {widget: gr.update(**localize(texts)) for widget, localize in self.localized}
        for control, widget in self._controls(card, texts):
            updates[widget] = gr.update(label=control.label, info=control.help, **_placeholder(control, texts))
        return updates | self.modes(card, texts) | {self.about: texts.about(card)}

    def modes(self, card: ModelCard, texts: Texts) -> dict[Any, Any]:
        """Return the update of the choice of modes; it goes back to the first one if the model may lack the chosen."""
        offered = modes_of(card)
        value = {} if offered == MODES else {"value": MODES[0]}
        choices = [(texts.modes[mode], mode) for mode in offered]
        return {self.mode: gr.update(label=texts.decode_type, choices=choices, **value)}

    def sight(self, card: ModelCard) -> dict[Any, Any]:
        """Return the updates of what only a model that takes pictures needs."""
        shown = {widget: gr.update(visible=card.pictures) for widget in self.of_pictures}
        return shown | {self.clip: gr.update(visible=card.video)}

    @property
    def of_pictures(self) -> list[Any]:
        """Return the widgets that `sight` sets."""
        return [self.samples_row, self.camera, self.seen_panel, self.clip]

    def defaults(self, card: ModelCard) -> dict[Any, Any]:
        """Return updates that set every control to the makers' default, within the valid range of the model."""
        ranges = {
            widget: gr.update(**_range(control), visible=control.is_shown)
            for control, widget in self._controls(card, ENGLISH)
        }
        return ranges | self.switches(card)

    def switches(self, card: ModelCard) -> dict[Any, Any]:
        """Return updates of the switches that only some models have, at their defaults; some need a loaded model."""
        return {
            self.thinking: gr.update(**_switched(card)),
            self.finer_detail: gr.update(value=False, visible=card.finer_detail),
            self.slices: gr.update(**_range(slices_control(card)), visible=card.max_slices is not None),
        }

    @property
    def settings(self) -> list[Any]:
        """Return all widgets that `defaults` sets."""
        return [self.thinking, self.finer_detail, *(widget for _, _, widget in self.controls)]

    def choices(
        self, listed: Sequence[ListedModel], card: ModelCard, shown: str, better: ListedModel | None, texts: Texts
    ) -> dict[Any, Any]:
        """Return updates of the picker, and of the model offered in place of the current one."""
        known = choosable(listed, card)
        named = [
            (_lines(entry, texts) if isinstance(entry, ListedModel) else entry.title, name)
            for name, entry in known.items()
        ]
        if better is None:
            offer = {self.best: gr.update(visible=False), self.best_reason: gr.update(visible=False)}
        else:
            label, reason = texts.best_model.format(model=better.card.title), model_lines.reason(better, texts)
            offer = {
                self.best: gr.update(value=label, visible=True),
                self.best_reason: gr.update(value=html.escape(reason), visible=True),
            }
        return {self.picker: gr.update(choices=named, value=shown)} | offer

    def dtypes(self, dtypes: Sequence[str], wished: str, texts: Texts, *, is_shown: bool = True) -> dict[Any, Any]:
        """Return the update of the choice of dtypes; it is not shown where there is none to choose from."""
        named = [(texts.automatic if dtype == "auto" else dtype, dtype) for dtype in dict.fromkeys((*dtypes, wished))]
        return {self.dtype: gr.update(choices=named, value=wished, visible=is_shown)}

    def _controls(self, card: ModelCard, texts: Texts) -> list[tuple[Control, Any]]:
        specs = [
            *(control for mode in MODES for control in mode_controls(card, mode, texts)),
            length_control(card, texts),
            slices_control(card, texts),
        ]
        return [(spec, widget) for spec, (_, _, widget) in zip(specs, self.controls, strict=True)]


def _switched(card: ModelCard) -> dict[str, bool]:
    return {"value": bool(card.thinking), "visible": card.thinking is not None}


def _control(control: Control, *, visible: bool = True) -> Any:
    """Create a slider, or a text field for a value that may stay empty (an empty number field sends 0)."""
    common = {"label": control.label, "info": control.help, "elem_id": control.name}
    if control.default is None:
        return gr.Textbox(max_lines=1, visible=visible, **_placeholder(control, ENGLISH), **common)
    # Without Gradio's own reset button, which would set it to the default of the model that the page was opened with.
    precision = 0 if control.limit.whole else 2
    return gr.Slider(**_range(control), visible=visible, precision=precision, buttons=[], **common)


def _placeholder(control: Control, texts: Texts) -> dict[str, str]:
    return {"placeholder": texts.chance} if control.default is None else {}


def _range(control: Control) -> dict[str, Any]:
    if control.default is None:
        return {"value": ""}
    limit = control.limit
    return {"minimum": limit.low, "maximum": limit.high, "value": control.default, "step": limit.step}


def _lines(entry: ListedModel, texts: Texts) -> str:
    """Return the two lines of an entry; `assets/page.css` displays them as two."""
    return f"{model_lines.title(entry, texts)} \n{model_lines.facts(entry, texts)}"
