/* Stands for the camera and the microphone of the machine: a picture and sounds that the test gives.

   Chromium's own fake devices (`fake_devices.py`) play a file from its start whenever the page opens them; here the test
   says when, so that a key can be held meanwhile. Nor can they be refused, missing, unplugged or kept waiting. */

window.devices = (() => {
  const canvas = Object.assign(document.createElement("canvas"), { width: 640, height: 480 });
  const draw = canvas.getContext("2d");
  let picture = null, audio = null, out = null;
  setInterval(() => {
    draw.fillStyle = "white";
    draw.fillRect(0, 0, 640, 480);
    if (picture) draw.drawImage(picture, 80, 0, 480, 480);
  }, 50);
  const given = {
    refuse: {}, tracks: {}, asked: [], cameras: ["Back", "Front"], prompt: null,  // devices
    isEndless: false, playing: [], stoppedBy: [],  // sound of answers
    socket: null, isCut: false, chunks: 0,  // the connection, and the sound that went through it
  };
  /* Firefox connects a microphone only at the rate that it has itself. */
  const { createMediaStreamSource } = AudioContext.prototype;
  AudioContext.prototype.createMediaStreamSource = function (stream) {
    if (given.refuse.rate && this.sampleRate === 16000) throw new DOMException("refused by the test", given.refuse.rate);
    return createMediaStreamSource.call(this, stream);
  };
  const { start, stop } = AudioBufferSourceNode.prototype;
  AudioBufferSourceNode.prototype.start = function (...how) {
    if (this.context !== audio) {
      this.loop = given.isEndless;  // it ends only when it is stopped, however slow the test is
      given.playing.push(this);
    }
    return start.apply(this, how);
  };
  /* While which event it was stopped: if it is the key or the click itself, nothing was waited for. */
  AudioBufferSourceNode.prototype.stop = function () { given.stoppedBy.push(window.event?.type ?? ""); stop.call(this); };
  const Real = WebSocket;
  window.WebSocket = class extends Real {
    constructor(address) { super(given.isCut ? `${address}/nowhere` : address); given.socket = this; }
    send(data) { given.chunks += typeof data !== "string"; super.send(data); }
  };
  navigator.mediaDevices.enumerateDevices = async () =>
    given.cameras.map((label) => ({ kind: "videoinput", deviceId: label.toLowerCase(), label }));
  navigator.mediaDevices.getUserMedia = async ({ video }) => {
    const kind = video ? "camera" : "microphone";
    given.asked.push(video?.deviceId?.exact ?? kind);
    await given.prompt;
    if (given.refuse[kind]) throw new DOMException("refused by the test", given.refuse[kind]);
    let stream;
    if (video) stream = canvas.captureStream(10);
    else {
      audio = new AudioContext({ sampleRate: 16000 });
      out = audio.createMediaStreamDestination();
      stream = out.stream;
    }
    given.tracks[kind] = stream.getTracks()[0];
    given.tracks[kind].getSettings = () => ({ deviceId: video?.deviceId?.exact ?? "back" });
    return stream;
  };
  /* A browser that recognises speech: where, and what it hears. Chromium's own has no service here, and only fails. */
  const recognises = (where, words) => {
    given.local = [];
    window.SpeechRecognition = class {
      static available = async () => where;
      static install = async () => { where = "available"; return true; };
      start() { given.local.push(Boolean(this.processLocally)); }
      stop() { this.onresult({ results: [[{ transcript: words }]] }); this.onend(); }
      abort() {}
    };
  };
  return Object.assign(given, {
    recognises,
    show: async (source) => {
      const image = Object.assign(new Image(), { src: source });
      await image.decode();
      picture = image;
      const video = document.querySelector("#live-view video");
      for (let frame = 0; frame < 3 && video?.srcObject; frame += 1) {  // until the page sees it
        await new Promise((done) => video.requestVideoFrameCallback(done));
      }
    },
    /* Play a WAV file, given in base64, into the microphone. */
    say: async (source) => {
      const data = Uint8Array.from(atob(source), (sign) => sign.charCodeAt(0));
      const node = Object.assign(audio.createBufferSource(), { buffer: await audio.decodeAudioData(data.buffer) });
      node.connect(out);
      node.start();
      await new Promise((done) => { node.onended = done; });
      await new Promise((done) => setTimeout(done, 200));  // until the last chunk is on its way
    },
    unplug: (kind) => {
      given.tracks[kind].stop();
      given.tracks[kind].dispatchEvent(new Event("ended"));
    },
  });
})();
