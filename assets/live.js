/* The live view: the camera, the microphone, and the voice of the answers.

   omnilmmLive(root, texts) fills `root`. Sound goes through one websocket; the camera's frame is uploaded as any picture
   is, so it never waits behind sound. A question is asked by the page's own event, with `omnilmmLive.asked`. */

window.omnilmmLive ??= (() => {
  const RATE = 16000, CHUNK = 512, LONGEST_SIDE = 1280, QUALITY = 0.85;
  const RING = 4, RING_MS = 500;  // frames from before a voice was noticed, when hands-free
  const DESCRIBE_MS = 2000;
  const SAME = 6;  // mean difference of grey values, of 255, below which a frame shows nothing new
  const RECONNECT_MS = 1500;
  const MOST_WAITING = 10 * RATE * 2;  // bytes of sound that a slow connection has not taken yet: 10 s
  const UNBLOCK_MS = 1000;  // until sound that the browser blocks is given up

  const element = (name, attributes = {}, ...children) => {
    const made = Object.assign(document.createElement(name), attributes);
    made.append(...children);  // strings become text, never HTML
    return made;
  };
  const filled = (text, gaps) => text.replace(/\{(\w+)\}/g, (_, name) => gaps[name]);
  const here = () => location.origin + location.pathname.replace(/\/$/, "");
  const seconds = (value) => value.toFixed(1);
  const languageOf = (text, otherwise) => /\p{Script=Han}/u.test(text) ? "zh" : /\p{Script=Latin}/u.test(text) ? "en" : otherwise;

  /* Runs on the audio thread: collects chunks of 16-bit samples; of a faster rate each is the mean of several. */
  const WORKLET = `registerProcessor("chunks", class extends AudioWorkletProcessor {
    constructor() { super(); Object.assign(this, { chunk: new Int16Array(${CHUNK}), filled: 0, phase: 0, sum: 0, count: 0 }); }
    process([[samples]]) {
      for (const sample of samples ?? []) {
        this.sum += sample;
        this.count += 1;
        this.phase += ${RATE};
        if (this.phase < sampleRate) continue;
        this.phase -= sampleRate;
        this.chunk[this.filled++] = Math.max(-1, Math.min(1, this.sum / this.count)) * 32767;
        this.sum = this.count = 0;
        if (this.filled === ${CHUNK}) { this.port.postMessage(this.chunk.slice()); this.filled = 0; }
      }
      return true;
    }
  });`;
  /* Firefox connects a microphone only at the rate that it has itself. */
  const sourceOf = (stream) => {
    for (const rate of [{ sampleRate: RATE }, {}]) {
      const audio = new AudioContext(rate);
      try { return audio.createMediaStreamSource(stream); }
      catch (error) { audio.close(); if (!rate.sampleRate) throw error; }
    }
  };

  const FULL = 4429;  // code of a connection that is refused since too many views are open
  const pending = [];  // questions for the page's next events

  const fill = (root, texts) => {
    const button = (text, act, attributes = {}) => element("button", { type: "button", onclick: act, ...attributes }, text);
    const parts = {
      video: element("video", { autoplay: true, muted: true, playsInline: true }),
      frame: element("img", { className: "live-frame", alt: texts.frame, hidden: true }),
      lights: element("span", { className: "live-lights" }),
      state: element("span", { className: "live-state" }),
      talk: button(matchMedia("(pointer: coarse)").matches ? texts.hold_by_finger : texts.hold, null, { className: "live-talk", disabled: true }),
      handsFree: element("input", { type: "checkbox", disabled: true, onchange: () => setHandsFree(parts.handsFree.checked) }),
      describe: element("input", { type: "checkbox", onchange: () => setDescribe(parts.describe.checked) }),
      mute: element("input", { type: "checkbox", onchange: () => setMuted(parts.mute.checked) }),
      cameras: element("select", { hidden: true, ariaLabel: texts.camera, onchange: () => openCamera(parts.cameras.value) }),
      stop: button(texts.stop, () => stop()),
      close: button(texts.close, () => close(), { className: "live-close" }),
      you: element("p", { className: "live-you" }),
      model: element("p", { className: "live-model" }),
      figures: element("p", { className: "live-figures" }),
      notice: element("p", { className: "live-notice" }),
      consent: element("div", { className: "live-consent", hidden: true }),
      typed: element("input", { type: "text", placeholder: texts.type, ariaLabel: texts.type, maxLength: 4000 }),
    };
    parts.captions = element("div", { className: "live-captions", tabIndex: 0 },
      parts.you, parts.model, parts.figures, parts.notice, parts.consent);
    const form = element("form", { className: "live-type", onsubmit: (event) => { event.preventDefault(); type(); } },
      parts.typed, element("button", { type: "submit" }, texts.send));
    for (const name of ["state", "you", "model", "notice"]) parts[name].setAttribute("aria-live", "polite");
    root.replaceChildren(
      element("div", { className: "live-picture" }, parts.video, parts.frame, parts.lights, parts.close),
      element("div", { className: "live-words" }, parts.state, parts.captions,
        element("div", { className: "live-controls" }, parts.talk, parts.stop,
          element("label", {}, parts.handsFree, texts.hands_free), element("label", {}, parts.mute, texts.mute),
          element("label", { className: "live-describe", hidden: true }, parts.describe, texts.describe), parts.cameras),
        form));

    const live = {
      isOpen: false, socket: null, name: "", abilities: {}, camera: null, microphone: null, audio: null, state: "idle",
      isHeld: false, frames: [], ring: 0, frame: null, askedGrey: null, playing: null, queue: [], isNextSound: null, figures: [],
      retry: 0, speaking: 0, asks: 0, views: 0, openings: { camera: 0, microphone: 0 }, describing: 0, isDescribing: false,
      describedGrey: null, lines: {}, tellReady: null, recognises: "", isAllowed: false, listening: null, releasedAt: 0,
    };

    /* One line for each of: "camera", "microphone", "speech", "connection", and what happened in this "turn". */
    const tell = (line, about = "turn") => {
      live.lines[about] = line;
      const text = Object.values(live.lines).filter(Boolean).join("\n");
      if (parts.notice.textContent === text) return;
      parts.notice.textContent = text;
      parts.captions.scrollTop = parts.captions.scrollHeight;
    };
    const show = (state) => {
      live.state = state;
      root.dataset.state = state;
      parts.state.textContent = texts[`state_${state}`];
      parts.stop.disabled = state === "idle";
    };
    const lights = () => {
      const open = [[live.camera, texts.camera_on], [live.microphone ?? live.listening, texts.microphone_on]];
      parts.lights.replaceChildren(...open.filter(([stream]) => stream).map(([, text]) => element("span", {}, text)));
    };
    const send = (message) => {
      if (live.socket?.readyState === WebSocket.OPEN) live.socket.send(message instanceof ArrayBuffer ? message : JSON.stringify(message));
    };

    /* --- devices ----------------------------------------------------------------------------------------------- */

    const why = (error, kind) => texts[{
      NotAllowedError: `${kind}_denied`, NotFoundError: `${kind}_missing`, OverconstrainedError: `${kind}_missing`,
    }[error.name] ?? `${kind}_failed`];
    const end = (stream) => stream?.getTracks().forEach((track) => track.stop());
    const openCamera = async (id) => {
      const mine = ++live.openings.camera;
      end(live.camera);
      live.camera = null;
      tell("", "camera");
      const size = { width: { ideal: LONGEST_SIDE }, height: { ideal: 720 } };
      try {
        const stream = await navigator.mediaDevices.getUserMedia({
          video: { ...size, ...(id ? { deviceId: { exact: id } } : { facingMode: { ideal: "environment" } }) },
        });
        if (mine !== live.openings.camera) return end(stream);  // closed, or another one was chosen meanwhile
        live.camera = stream;
        parts.video.srcObject = stream;
        stream.getVideoTracks()[0].addEventListener("ended", () => {
          if (live.camera === stream) { live.camera = null; lights(); tell(texts.camera_lost, "camera"); }
        });
        const cameras = (await navigator.mediaDevices.enumerateDevices()).filter((device) => device.kind === "videoinput");
        parts.cameras.hidden = cameras.length < 2;
        parts.cameras.replaceChildren(...cameras.map((device, number) =>
          element("option", { value: device.deviceId }, device.label || `${texts.camera} ${number + 1}`)));
        parts.cameras.value = stream.getVideoTracks()[0].getSettings().deviceId ?? "";
      } catch (error) { if (mine === live.openings.camera) tell(why(error, "camera"), "camera"); }
      lights();
    };
    const openMicrophone = async () => {
      closeMicrophone();
      const mine = live.openings.microphone;
      tell("", "microphone");
      try {
        const stream = await navigator.mediaDevices.getUserMedia({
          audio: { channelCount: 1, echoCancellation: true, noiseSuppression: true, autoGainControl: true },
        });
        if (mine !== live.openings.microphone) return end(stream);
        live.microphone = stream;
        stream.getAudioTracks()[0].addEventListener("ended", () => {
          if (live.state === "listening") stop();  // the rest of it will not come
          closeMicrophone();
          tell(texts.microphone_lost, "microphone");
        });
        const source = sourceOf(stream);
        live.audio = source.context;
        const script = URL.createObjectURL(new Blob([WORKLET], { type: "text/javascript" }));
        await live.audio.audioWorklet.addModule(script);
        URL.revokeObjectURL(script);
        if (mine !== live.openings.microphone) return;
        const node = new AudioWorkletNode(live.audio, "chunks");
        /* Sound leaves the browser only while the key is held, or when hands-free was chosen. */
        node.port.onmessage = ({ data }) => {
          const isWanted = live.isHeld || parts.handsFree.checked;
          if (!isWanted || !live.socket) return;
          if (live.socket.bufferedAmount < MOST_WAITING) send(data.buffer);
          else tell(texts.too_slow, "sound");
        };
        source.connect(node);
      } catch (error) {
        if (mine !== live.openings.microphone) return;
        closeMicrophone();
        tell(why(error, "microphone"), "microphone");
      }
      ready();
    };
    const closeMicrophone = () => {
      live.openings.microphone += 1;
      end(live.microphone);
      live.audio?.close().catch(() => {});
      Object.assign(live, { microphone: null, audio: null, isHeld: false });
      ready();
    };
    const ready = () => {
      const hears = Boolean(live.recognises || live.microphone && live.abilities.hears);
      if (hears && parts.talk.disabled) setTimeout(() => parts.talk.focus());  // so that the space key is the talk key
      parts.talk.disabled = !hears;
      parts.handsFree.disabled = !hears || !live.abilities.hands_free;
      if (parts.handsFree.disabled) parts.handsFree.checked = false;
      parts.handsFree.parentElement.title = parts.handsFree.disabled ? texts.no_hands_free : "";
      lights();
    };

    /* --- recognition by the browser --------------------------------------------------------------------------------- */

    const findRecognition = async () => {
      const mine = live.views, where = await omnilmmRecognition.where(texts.language);
      if (mine !== live.views) return;
      const isAsked = where.includes("elsewhere") || where.includes("download");
      live.recognises = where === "here" || (isAsked && live.isAllowed) ? where : "";
      parts.consent.hidden = !isAsked || live.isAllowed;
      parts.consent.replaceChildren(element("p", {}, texts.browser_elsewhere), button(texts.browser_allow, allow),
        ...(where.includes("download") ? [button(texts.browser_download, download)] : []));
      tell({ here: texts.browser_here, nowhere: texts.browser_cannot_hear }[where] ?? "", "speech");
      ready();
    };
    const allow = () => { live.isAllowed = true; return findRecognition(); };
    const download = async () => {
      tell(texts.browser_downloading, "speech");
      if (await omnilmmRecognition.download(texts.language)) return findRecognition();
      tell(texts.browser_not_downloaded, "speech");
    };
    const listen = () => {
      const mine = live.asks;
      live.releasedAt = 0;
      live.listening = omnilmmRecognition.listen(texts.language, live.recognises === "here", (words, failure) => {
        if (mine !== live.asks) return;  // spoken again, or stopped
        endListening();
        if (words) {
          showHeard(live.releasedAt ? (performance.now() - live.releasedAt) / 1000 : 0);
          return ask(words);
        }
        send({ type: "stop" });
        tell(failure ? filled(texts.browser_failed, { reason: failure }) : texts.nothing_heard);
      });
      lights();
    };
    const endListening = () => {
      live.listening?.abort();
      Object.assign(live, { listening: null, isHeld: false });
      lights();
    };

    /* --- frames ------------------------------------------------------------------------------------------------ */

    const grab = () => {
      const { videoWidth: width, videoHeight: height } = parts.video;
      if (!live.camera || !width) return null;
      const scale = Math.min(1, LONGEST_SIDE / Math.max(width, height));
      const canvas = element("canvas", { width: Math.round(width * scale), height: Math.round(height * scale) });
      canvas.getContext("2d").drawImage(parts.video, 0, 0, canvas.width, canvas.height);
      return canvas;
    };
    const grey = (canvas) => {
      const small = element("canvas", { width: 32, height: 24 }), context = small.getContext("2d", { willReadFrequently: true });
      context.drawImage(canvas, 0, 0, 32, 24);
      const { data } = context.getImageData(0, 0, 32, 24);
      return Array.from({ length: 32 * 24 }, (_, i) => (data[4 * i] + data[4 * i + 1] + data[4 * i + 2]) / 3);
    };
    const difference = (one, other) => one.reduce((sum, value, i) => sum + Math.abs(value - other[i]), 0) / one.length;
    const shows = (canvas, before) => before && difference(grey(canvas), before) < SAME;
    const sendFrame = async (canvas) => {
      const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", QUALITY));
      const body = new FormData();
      body.append("files", blob, "camera.jpg");
      const answer = await fetch(`${here()}/gradio_api/upload`, { method: "POST", body });
      if (!answer.ok) throw new Error(await answer.text());
      const [path] = await answer.json();
      return { blob, path };
    };
    /* Upload a frame, unless descriptions are used; the server leaves it out if the newest picture shows the same. */
    const upload = async (canvas) => {
      if (!canvas || parts.describe.checked) return [];
      const { blob, path } = await sendFrame(canvas);
      URL.revokeObjectURL(parts.frame.src);
      parts.frame.src = URL.createObjectURL(blob);
      parts.frame.hidden = false;
      return [{ path, orig_name: "camera.jpg", mime_type: "image/jpeg", size: blob.size, meta: { _type: "gradio.FileData" } }];
    };
    const describeFrame = async () => {
      const canvas = grab();
      if (!canvas || live.isDescribing || shows(canvas, live.describedGrey)) return;
      live.isDescribing = true;
      try {
        const { path } = await sendFrame(canvas);
        live.describedGrey = grey(canvas);
        send({ type: "frame", path });
      } catch { /* the next frame is tried */ }
      live.isDescribing = false;
    };
    const setDescribe = (on) => {
      clearInterval(live.describing);
      live.describedGrey = null;
      send({ type: "describe", on });
      if (on) { live.describing = setInterval(describeFrame, DESCRIBE_MS); describeFrame(); }
    };
    const keepFrames = () => {
      clearInterval(live.ring);
      live.frames = [];
      if (parts.handsFree.checked) live.ring = setInterval(keepFrame, RING_MS);
    };
    const keepFrame = () => { live.frames = [...live.frames, { at: performance.now(), canvas: grab() }].slice(-RING); };
    /* What was in front of the camera some seconds ago; the oldest frame that is kept, if it was longer ago. */
    const frameOf = (secondsAgo) => {
      const when = performance.now() - 1000 * secondsAgo;
      return (live.frames.findLast(({ at }) => at <= when) ?? live.frames[0])?.canvas ?? grab();
    };

    /* --- turns ------------------------------------------------------------------------------------------------- */

    const press = () => {
      if (live.isHeld || parts.talk.disabled || parts.handsFree.checked) return;
      hush();
      endListening();
      live.asks += 1;  // a question that is still on its way is not asked
      live.isHeld = true;
      live.frame = grab();  // what the question is about is in front of the camera when it begins
      live.audio?.resume();
      sounds();
      tell("");
      tell("", "sound");
      send({ type: "press" });
      if (live.recognises) listen();
    };
    const release = () => {
      if (!live.isHeld) return;
      live.isHeld = false;
      if (!live.listening) return send({ type: "release" });
      live.releasedAt = performance.now();
      show("thinking");
      live.listening.stop();
    };
    const setHandsFree = (on) => { live.audio?.resume(); sounds(); tell(""); send({ type: "hands_free", on }); keepFrames(); };
    const setMuted = (on) => {
      send({ type: "mute", on });
      if (on) { hush(); send({ type: "silent" }); }
    };
    const stop = () => { hush(); endListening(); live.asks += 1; send({ type: "stop" }); };
    const type = () => {
      const text = parts.typed.value.trim();
      if (!text) return;
      stop();
      sounds();
      tell("");
      tell("", "sound");
      live.frame = grab();
      parts.typed.value = "";
      ask(text);
    };
    const ask = async (text, turn = -1) => {
      const mine = ++live.asks;
      parts.you.textContent = text;
      parts.model.textContent = "";
      const frame = live.frame;
      live.frame = null;
      let files = [];
      const isSame = Boolean(frame) && Boolean(shows(frame, live.askedGrey));
      try { files = await upload(frame); } catch (error) { tell(error.message); }
      if (mine !== live.asks) return;
      if (frame) live.askedGrey = grey(frame);
      pending.push([live.name, turn, isSame, { text, files }]);
      document.getElementById("do-live")?.click();
    };

    /* --- sound of the answer ------------------------------------------------------------------------------------- */

    /* Browsers let sound be heard once it was opened by a click or a key, so these open it, too. */
    const sounds = () => {
      live.output ??= new AudioContext();
      live.output.resume().catch(() => {});
      return live.output;
    };
    const hush = () => {
      live.queue = [];
      live.speaking += 1;
      try { live.playing?.stop(); } catch { /* it has ended */ }
      live.playing = null;
      window.speechSynthesis?.cancel();
    };
    const play = async () => {
      if (live.playing || !live.queue.length) return;
      const mine = live.speaking, next = live.queue.shift();
      const after = () => {
        if (mine !== live.speaking) return;
        live.playing = null;
        live.queue.length ? play() : send({ type: "silent" });
      };
      live.playing = { stop() {} };
      if (typeof next === "string") {
        const voice = localVoice(languageOf(next, texts.language));
        if (!voice) return after();
        const speech = new SpeechSynthesisUtterance(next);
        return window.speechSynthesis.speak(Object.assign(speech, { voice, lang: voice.lang, onend: after, onerror: after }));
      }
      try {
        const output = sounds();
        await Promise.race([output.resume(), new Promise((done) => setTimeout(done, UNBLOCK_MS))]);
        const sound = await output.decodeAudioData(next);
        if (mine !== live.speaking) return;
        if (output.state !== "running") {
          tell(texts.sound_blocked);
          return after();
        }
        const source = Object.assign(output.createBufferSource(), { buffer: sound, onended: after });
        source.connect(output.destination);
        live.playing = source;
        source.start();
      } catch { after(); }
    };
    const localVoice = (language) => (window.speechSynthesis?.getVoices() ?? []).find((voice) =>
      voice.localService && voice.lang.toLowerCase().startsWith(language));  // others send the text to a company
    const tellVoice = () => {
      for (const language of ["en", "zh"]) send({ type: "voice", on: Boolean(localVoice(language)), language });
    };

    /* --- messages ------------------------------------------------------------------------------------------------ */

    const receive = {
      ready: (message) => {
        live.abilities = message;
        live.name = message.name;
        send({ type: "language", language: texts.language });
        tellVoice();
        tell("", "connection");
        if (!message.browser_hears) tell(message.loading ? texts.loading_speech : message.hears ? "" : texts.cannot_hear, "speech");
        if (!message.hears && !message.loading && live.microphone) closeMicrophone();  // nothing listens to it
        parts.describe.parentElement.hidden = !message.describes;
        if (parts.describe.checked) setDescribe(true);  // after the connection was lost
        if (parts.handsFree.checked) setHandsFree(true);
        if (parts.mute.checked) setMuted(true);
        ready();
        show("idle");
        live.tellReady?.();
      },
      state: ({ state }) => show(state),
      started: ({ seconds_ago: ago }) => { hush(); tell(""); tell("", "sound"); live.asks += 1; live.frame = frameOf(ago); },
      heard: ({ text, turn, seconds: took }) => { showHeard(took); ask(text, turn); },
      nothing_heard: () => { if (!parts.handsFree.checked) tell(texts.nothing_heard); },  // a noise asks for nothing
      first_word: ({ seconds: took }) => {
        parts.figures.textContent = [...live.figures, filled(texts.figure_first, { seconds: seconds(took) })].join(" · ");
        live.figures = [];
      },
      say: ({ text, sound, browser }) => {
        parts.model.textContent = `${parts.model.textContent} ${text}`.trim();
        parts.captions.scrollTop = parts.captions.scrollHeight;
        live.isNextSound = sound ? live.speaking : null;
        const speaks = sound || (browser && localVoice(languageOf(text, texts.language)));
        if (!speaks && !parts.mute.checked && live.abilities.voice !== "none") tell(texts.no_voice);
        if (browser) { live.queue.push(text); play(); }
      },
      hush: () => hush(),
      failed: () => tell(texts.failed),
    };
    const showHeard = (took) => {
      live.figures = [filled(texts.figure_heard, { seconds: seconds(took) })];
      parts.figures.textContent = live.figures.join(" · ");
    };
    const connect = () => {
      const socket = new WebSocket(`${here().replace(/^http/, "ws")}/live`);
      socket.binaryType = "arraybuffer";
      socket.onmessage = ({ data }) => {
        if (live.socket !== socket) return;
        if (typeof data === "string") { const message = JSON.parse(data); return receive[message.type]?.(message); }
        if (live.isNextSound === live.speaking) { live.queue.push(data); play(); }
      };
      socket.onclose = ({ code }) => {
        if (live.socket !== socket) return;
        live.socket = null;
        if (!live.isOpen) return;
        show("idle");
        if (live.listening) live.asks += 1;
        endListening();
        if (code === FULL) return tell(texts.full, "connection");
        tell(texts.lost, "connection");
        live.retry = setTimeout(connect, RECONNECT_MS);
      };
      live.socket = socket;
    };
    const open = async () => {
      if (live.isOpen) return;
      const mine = ++live.views;
      live.isOpen = true;
      root.hidden = false;
      root.scrollIntoView({ block: "nearest" });
      live.lines = {};
      tell("");
      show("idle");
      const isReady = new Promise((done) => { live.tellReady = done; });
      connect();
      sounds();
      if (!navigator.mediaDevices) return tell(texts.not_secure, "camera");
      await openCamera();
      await isReady;
      if (mine !== live.views) return;  // closed meanwhile
      if (live.abilities.browser_hears) await findRecognition();
      else if (live.abilities.hears || live.abilities.loading) await openMicrophone();
      root.scrollIntoView({ block: "nearest" });  // it has grown
    };
    const close = () => {
      if (!live.isOpen) return;
      live.isOpen = false;
      live.views += 1;
      live.openings.camera += 1;
      live.asks += 1;
      root.hidden = true;
      parts.handsFree.checked = parts.describe.checked = false;
      clearTimeout(live.retry);
      clearInterval(live.describing);
      keepFrames();
      hush();
      endListening();
      live.recognises = "";
      end(live.camera);
      live.camera = null;
      parts.video.srcObject = null;
      closeMicrophone();
      live.output?.close().catch(() => {});
      delete live.output;
      live.socket?.close();
      live.socket = null;
      live.askedGrey = null;
      document.getElementById("live-open")?.focus();
    };

    const isTyping = (target) => target.closest?.("input, textarea, select, button, [contenteditable]");
    parts.talk.addEventListener("pointerdown", (event) => { parts.talk.setPointerCapture(event.pointerId); press(); });
    for (const type of ["pointerup", "pointercancel"]) parts.talk.addEventListener(type, release);
    parts.talk.addEventListener("contextmenu", (event) => event.preventDefault());  // a long touch opens it
    document.addEventListener("keydown", (event) => {
      if (!live.isOpen || event.code !== "Space" || event.target !== parts.talk && isTyping(event.target)) return;
      event.preventDefault();
      if (!event.repeat) press();
    });
    document.addEventListener("keyup", (event) => { if (event.code === "Space" && live.isHeld) { event.preventDefault(); release(); } });
    window.addEventListener("blur", release);
    window.speechSynthesis?.addEventListener?.("voiceschanged", tellVoice);
    root.omnilmm = { open, close, isOpen: () => live.isOpen, language: texts.language };
    return root.omnilmm;
  };

  const fillOnce = () => {
    const root = document.getElementById("live-view");
    if (!root) return null;
    const texts = JSON.parse(root.dataset.texts);
    return root.omnilmm?.language === texts.language ? root.omnilmm : fill(root, texts);
  };
  let current = null;
  const close = () => current?.close();
  const toggle = () => { if (current?.isOpen()) return close(); current = fillOnce(); current?.open(); };
  const asked = (_name, _turn, _isSame, _question, ...given) =>
    [...(pending.shift() ?? ["", -1, false, { text: "", files: [] }]), ...given];
  return { toggle, close, asked };
})();
