// Buttons that copy the text of the element whose id they name in data-copy. Without scripts they stay hidden.
for (const button of document.querySelectorAll("button[data-copy]")) {
  const source = document.getElementById(button.dataset.copy);
  button.hidden = false;
  button.addEventListener("click", async () => {
    // Selected too: where the clipboard is closed to us, as over plain HTTP, Ctrl-C is all that is left to do.
    getSelection().selectAllChildren(source);
    let copied;
    try {
      await navigator.clipboard.writeText(source.textContent);
      copied = true;
    } catch {
      copied = document.execCommand("copy");
    }
    button.textContent = copied ? "Copied" : "Press Ctrl-C";
  });
}
