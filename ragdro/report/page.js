for (const box of document.querySelectorAll(".search")) {
  const words = box.querySelector(".words"), sorts = box.querySelector(".sorts");
  const said = box.querySelector("[role=status]"), parts = [...box.querySelectorAll("details")];
  const texts = new Map();
  const text = (part) => texts.get(part) ?? (texts.set(part, part.textContent.toLowerCase()), texts.get(part));
  const filter = () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const part of parts) {
      const fits = (!sorts.value || part.dataset.sort === sorts.value) && wanted.every((w) => text(part).includes(w));
      part.hidden = !fits;
      shown += fits;
    }
    said.textContent = `${shown} of ${parts.length}`;
  };
  words.addEventListener("input", filter);
  sorts.addEventListener("change", filter);
  filter();
}
