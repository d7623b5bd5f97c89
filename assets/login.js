/* Gradio's login page has no scripts of ours and does not show a rate-limited visitor how long to wait; this does. */
(() => {
  const tell = async (answer) => {
    document.getElementById("locked-out")?.remove();
    const field = document.querySelector("input[type=password]");
    if (answer.status !== 429 || !field) return;
    const line = document.createElement("p");
    line.id = "locked-out";
    line.setAttribute("role", "alert");
    line.style.cssText = "margin: 0 0 8px; font-weight: 600";
    line.textContent = (await answer.clone().json()).detail;
    (field.closest(".form") ?? field).before(line);
  };
  const fetched = window.fetch.bind(window);
  window.fetch = async (what, how = {}) => {
    const answer = await fetched(what, how);
    if (how.method === "POST" && String(what).split("?")[0].endsWith("/login")) await tell(answer);
    return answer;
  };
})();
