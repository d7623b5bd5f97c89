/* Stands for the camera and the microphone of the machine: a picture and sounds that the test gives.

   Chromium's own fake devices play a file from its start, whenever the page opens them; here the test says when. */

window.devices = (() => {
  const canvas = Object.assign(document.createElement("canvas"), { width: 640, height: 480 });
  const draw = canvas.getContext("2d");
  let picture = null, audio = null, out = null;
  setInterval(() => {
    draw.fillStyle = "white";
    draw.fillRect(0, 0, 640, 480);
    if (picture) draw.drawImage(picture, 80, 0, 480, 480);
  }, 50);
  const given = { refuse: {}, tracks: {}, stopped: 0 };
  const stop = AudioBufferSourceNode.prototype.stop;
  AudioBufferSourceNode.prototype.stop = function () { given.stopped += 1; stop.call(this); };
  navigator.mediaDevices.getUserMedia = async ({ video }) => {
    const kind = video ? "camera" : "microphone";
    if (given.refuse[kind]) throw new DOMException("refused by the test", given.refuse[kind]);
    let stream;
    if (video) stream = canvas.captureStream(10);
    else {
      audio = new AudioContext({ sampleRate: 16000 });
      out = audio.createMediaStreamDestination();
      stream = out.stream;
    }
    given.tracks[kind] = stream.getTracks()[0];
    return stream;
  };
  return Object.assign(given, {
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
