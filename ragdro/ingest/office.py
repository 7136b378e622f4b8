"""Word documents and PowerPoint slides.

Word: body paragraphs, tables, content controls and text boxes, in the order of the file; not headers,
footers, comments and footnotes. PowerPoint: the shapes, tables and notes of each slide; not diagrams.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ragdro.ingest.decode import plain
from ragdro.ingest.document import Document, ReadOptions, Remarks, TextBuilder

_CELLS = " | "


def read_docx(path: Path, options: ReadOptions, remarks: Remarks) -> Iterator[Document]:
    """The file as one document; the styles Title and Heading 1 to 9 make headings."""
    import docx

    with path.open("rb") as file:
        opened = docx.Document(file)
    levels = {style.style_id: _level(style.name) for style in opened.styles}
    built = TextBuilder()
    for block in _blocks(opened.element.body):
        if _tag(block) == "tbl":
            _add_table(block, built)
        else:
            style = block.find("./{*}pPr/{*}pStyle")
            named = None if style is None else next(iter(style.attrib.values()), None)
            built.add(_paragraph_text(block), level=levels.get(str(named)))
    title = " ".join((opened.core_properties.title or "").split())
    titled = next((heading.title for heading in built.headings if heading.level <= 1), "")
    yield Document(built.text, title if title and title != "Word Document" else titled, built.headings)


def _level(style: str | None) -> int | None:
    name = (style or "").casefold()
    if name == "title":
        return 1
    word, _, number = name.partition(" ")
    return int(number) if word == "heading" and number.isdecimal() else None


def _tag(node: Any) -> str:
    return str(node.tag).rpartition("}")[2]


def _blocks(parent: Any) -> Iterator[Any]:
    """Paragraphs and tables below `parent`, also those inside content controls and tracked changes."""
    for child in parent.iterchildren("{*}p", "{*}tbl", "{*}sdt", "{*}ins", "{*}customXml"):
        if _tag(child) in ("p", "tbl"):
            yield child
        else:
            inner = child.find("./{*}sdtContent")
            yield from _blocks(child if inner is None else inner)


def _add_table(table: Any, built: TextBuilder) -> None:
    for line in _table_lines(table):
        built.add(line, end="\n")
    built.gap()


def _table_lines(table: Any) -> Iterator[str]:
    """A line a row. A merged cell stands in the file once, so it is read once."""
    for row in table.iterchildren("{*}tr"):
        cells = (_cell_text(cell) for cell in row.iterchildren("{*}tc"))
        line = _CELLS.join(cell for cell in cells if cell)
        if line:
            yield line


def _cell_text(cell: Any) -> str:
    lines: list[str] = []
    for block in _blocks(cell):
        lines += _table_lines(block) if _tag(block) == "tbl" else [_paragraph_text(block)]
    return " ".join(" ".join(lines).split())


def _paragraph_text(paragraph: Any) -> str:
    """The text of a paragraph and of the text boxes in it; what a tracked change deleted is none."""
    pieces = []
    for node in paragraph.iter("{*}t", "{*}tab", "{*}br", "{*}cr", "{*}noBreakHyphen", "{*}p"):
        if any(_tag(above) == "Fallback" for above in node.iterancestors()):
            continue  # a text box is there twice, the second time for old programs
        tag = _tag(node)
        if tag == "t":
            pieces.append(node.text or "")
        elif tag == "tab":
            pieces.append("\t" if _tag(node.getparent()) == "r" else "")  # elsewhere it is a tab stop
        elif tag == "noBreakHyphen":
            pieces.append("-")
        elif node is not paragraph:
            pieces.append("\n")
    return plain("".join(pieces))


def read_pptx(path: Path, options: ReadOptions, remarks: Remarks) -> Iterator[Document]:
    """The file as one document; each slide is a section with the slide's title as its heading."""
    import pptx

    with path.open("rb") as file:
        opened = pptx.Presentation(file)
    built, breaks = TextBuilder(), []
    for number, slide in enumerate(opened.slides, start=1):
        breaks.append(built.length)
        title = slide.shapes.title
        if title is not None and title.text_frame.text.strip():
            built.add(_lines(title.text_frame.text), level=1)
        else:
            built.begin(f"Slide {number}")
        for shape in _shapes(slide.shapes):
            if title is None or shape.shape_id != title.shape_id:
                _add_shape(shape, built)
        notes = slide.notes_slide.notes_text_frame if slide.has_notes_slide else None
        if notes is not None:
            built.add(_lines(notes.text))
    title = " ".join((opened.core_properties.title or "").split())
    first = built.headings[0].title if built.headings else ""
    named = first if title in ("", "PowerPoint Presentation") else title
    yield Document(built.text, named, built.headings, numbering="slide", breaks=tuple(breaks))


def _shapes(shapes: Iterable[Any]) -> Iterator[Any]:
    for shape in shapes:
        if hasattr(shape, "shapes"):  # a group
            yield from _shapes(shape.shapes)
        else:
            yield shape


def _add_shape(shape: Any, built: TextBuilder) -> None:
    if shape.has_text_frame:
        built.add(_lines(shape.text_frame.text))
    elif shape.has_table:
        for row in shape.table.rows:
            cells = (" ".join(cell.text.split()) for cell in row.cells if not cell.is_spanned)
            built.add(plain(_CELLS.join(cell for cell in cells if cell)), end="\n")
        built.gap()


def _lines(text: str) -> str:
    return plain(text.replace("\x0b", "\n"))
