/* Records a short video with the camera, without sound, and attaches it as any file is attached.

   omnilmmClip.fill(root, texts, attach, mostBytes) fills `root`, which stands in a panel of either page. Where the panel
   is closed meanwhile, what was recorded is dropped, or attached if `root` has `data-keeps`. The video is
   encoded by the browser and uploaded like a chosen file: the server does not convert it, and decodes it like any other
   upload. */

window.omnilmmClip ??= (() => {
  const SIZE = { width: { ideal: 1280 }, height: { ideal: 720 }, facingMode: { ideal: "environment" } };
  const BITS_PER_S = 2_500_000, CHUNK_MS = 1000, CLOCK_MS = 250;
  const TYPES = ["video/webm", "video/mp4"];  // Safari before 18.4 has only the second
  const WHY = { NotAllowedError: "denied", NotFoundError: "missing", OverconstrainedError: "missing" };
  let opening = 0;  // the newest attempt; earlier ones let the camera go
  let recording = null;

  const element = (name, attributes = {}, ...children) => {
    const made = Object.assign(document.createElement(name), attributes);
    made.append(...children);  // strings become text, never HTML
    return made;
  };
  const clock = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
  const end = (stream) => stream?.getTracks().forEach((track) => track.stop());

  const fill = (root, texts, attach, mostBytes = Infinity) => {
    const most = Number(root.dataset.seconds);
    const line = element("p", { className: "clip-line" }, texts.help);
    const view = element("video", { muted: true, playsInline: true, autoplay: true, hidden: true });
    const button = element("button", { type: "button", className: "clip-record", onclick: () => recording ? finish() : start() }, texts.record);
    line.setAttribute("aria-live", "polite");
    root.replaceChildren(view, button, line);
    const tell = (text) => { line.textContent = text; };

    const start = async () => {
      const mine = ++opening;
      if (!navigator.mediaDevices || !window.MediaRecorder) return tell(texts.not_secure);
      let stream = null;
      try {
        stream = await navigator.mediaDevices.getUserMedia({ video: SIZE });
        if (mine !== opening) return end(stream);
        record(stream);
      } catch (error) {
        end(stream);
        if (mine === opening) tell(texts[WHY[error.name] ?? "failed"]);
      }
    };
    const record = (stream) => {
      const mimeType = TYPES.find((type) => MediaRecorder.isTypeSupported(type));
      const recorder = new MediaRecorder(stream, { mimeType, videoBitsPerSecond: BITS_PER_S }), chunks = [];
      let bytes = 0;
      const from = performance.now();
      recorder.ondataavailable = ({ data }) => {
        chunks.push(data);
        bytes += data.size;
        if (bytes + 2 * data.size > mostBytes) finish();  // before the next chunk is too much
      };
      recorder.onstop = () => done(chunks, recorder.mimeType.split(";")[0]);  // also when the camera is unplugged
      recorder.start(CHUNK_MS);
      const tick = () => {
        const seconds = (performance.now() - from) / 1000;
        if (!root.isConnected) return root.hasAttribute("data-keeps") && seconds >= 1 ? finish() : abandon();  // its panel was closed
        if (seconds >= most) return finish();
        tell(`${clock(seconds)} / ${clock(most)}`);
      };
      recording = { stream, recorder, ticking: setInterval(tick, CLOCK_MS) };
      view.srcObject = stream;
      view.hidden = false;
      button.textContent = texts.stop;
      line.setAttribute("aria-live", "off");  // the clock is not read out
      root.toggleAttribute("data-recording", true);
      tick();
    };
    const done = (chunks, type) => {
      forget();
      view.hidden = true;
      view.srcObject = null;
      button.textContent = texts.record;
      line.setAttribute("aria-live", "polite");
      root.removeAttribute("data-recording");
      const content = new Blob(chunks, { type });
      if (!content.size) return tell(texts.failed);
      tell(texts.help);
      attach(new File([content], `recording.${type.endsWith("mp4") ? "mp4" : "webm"}`, { type }));
    };
  };
  /* Let the camera go; what was recorded is dropped unless `onstop` has it already. */
  const forget = () => {
    opening += 1;
    const was = recording;
    recording = null;
    if (!was) return;
    clearInterval(was.ticking);
    end(was.stream);
  };
  const finish = () => { if (recording?.recorder.state === "recording") recording.recorder.stop(); };
  /* The panel is about to be drawn anew: what is recorded is kept, what is being opened is not. */
  const conclude = () => { recording ? finish() : forget(); };
  const abandon = () => {
    if (recording?.recorder.state === "recording") recording.recorder.onstop = null;  // one that was stopped is still written
    forget();
  };

  return { fill, conclude };
})();
