/* Speech recognition by the browser itself, where the page is served with `--speech-model browser`.

   On this device if the browser can (`processLocally`). Otherwise the browser may send the voice to a company, so that
   `assets/live.js` asks the visitor first. https://webaudio.github.io/web-speech-api/ */

window.omnilmmRecognition ??= (() => {
  const LANGUAGES = { en: "en-US", zh: "zh-CN" };
  const NOTHING_SAID = ["no-speech", "aborted"];
  const recogniser = () => window.SpeechRecognition ?? window.webkitSpeechRecognition;
  const locally = (language) => ({ langs: [LANGUAGES[language]], processLocally: true });

  /* Where the browser would recognise: "here", "here after a download", "elsewhere", or "nowhere" if it cannot. */
  const where = async (language) => {
    if (!recogniser()) return "nowhere";
    try {
      const found = await recogniser().available?.(locally(language));
      return { available: "here", downloadable: "here after a download", downloading: "here after a download" }[found] ?? "elsewhere";
    } catch { return "elsewhere"; }
  };
  const download = async (language) => Boolean(await recogniser().install?.(locally(language)).catch(() => false));

  /* Listen until `stop`; then `done` gets the words, and the name of an error, each maybe empty. `abort` drops them. */
  const listen = (language, isLocal, done) => {
    const recognition = new (recogniser())();
    Object.assign(recognition, { lang: LANGUAGES[language], continuous: true, interimResults: false });
    if (isLocal) recognition.processLocally = true;
    let words = "", failure = "";
    recognition.onresult = ({ results }) => { words = Array.from(results, ([best]) => best.transcript.trim()).join(" ").trim(); };
    recognition.onerror = ({ error }) => { if (!NOTHING_SAID.includes(error)) failure = error; };
    recognition.onend = () => done(words, failure);
    recognition.start();
    return recognition;
  };
  return { where, download, listen };
})();
