"""Files to ingest, made with the libraries that make such files, or by hand."""

from __future__ import annotations

import io
import os
from pathlib import Path

import docx
import pptx
import pypdf
from docx.oxml import parse_xml
from docx.oxml.ns import nsdecls
from pptx.util import Inches


def pdf(pages: list[str], title: str = "") -> bytes:
    """A PDF with a line of text a page, written by hand; "" makes a page without a text layer."""
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(len(pages)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Count {len(pages)} /Kids [{kids}] >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for number, text in enumerate(pages):
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents {5 + 2 * number} 0 R "
            "/Resources << /Font << /F1 3 0 R >> >> >>".encode()
        )
        stream = f"BT /F1 12 Tf 50 700 Td ({text}) Tj ET".encode() if text else b"0 0 50 50 re f"
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream))
    objects.append(f"<< /Title ({title}) >>".encode())
    out, places = io.BytesIO(b"%PDF-1.4\n"), []
    out.seek(0, os.SEEK_END)
    for number, body in enumerate(objects, start=1):
        places.append(out.tell())
        out.write(b"%d 0 obj\n%s\nendobj\n" % (number, body))
    start = out.tell()
    out.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
    out.writelines(b"%010d 00000 n \n" % place for place in places)
    root = b"<< /Size %d /Root 1 0 R /Info %d 0 R >>" % (len(objects) + 1, len(objects))
    out.write(b"trailer\n%s\nstartxref\n%d\n%%%%EOF\n" % (root, start))
    return out.getvalue()


def encrypted(data: bytes, password: str) -> bytes:
    """The PDF, to be opened with `password`; "" opens it without being asked."""
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(data))
    writer.encrypt(password, owner_password="owner", algorithm="RC4-128")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def word(path: Path) -> None:
    """Headings, a table with merged cells and a nested table, a content control, a text box, a deletion."""
    made = docx.Document()
    made.core_properties.title = "The plan"
    made.add_heading("Goals", 1)
    made.add_paragraph("Grow slowly.")
    made.add_heading("Money", 2)
    table = made.add_table(3, 2)
    for r, row in enumerate(table.rows):
        for c, cell in enumerate(row.cells):
            cell.text = f"cell{r}{c}"
    table.cell(0, 0).merge(table.cell(0, 1))
    table.cell(1, 0).merge(table.cell(2, 0))
    table.cell(1, 1).add_table(1, 1).cell(0, 0).text = "nested"
    control = "<w:sdt %s><w:sdtContent><w:p><w:r><w:t>controlled</w:t></w:r></w:p></w:sdtContent></w:sdt>"
    made.element.body.insert(1, parse_xml(control % nsdecls("w")))
    run = made.add_paragraph("boxed: ").add_run()
    box = "<w:txbxContent><w:p><w:r><w:t>inside</w:t></w:r></w:p></w:txbxContent>"
    mc = 'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"'
    run._r.append(
        parse_xml(
            f"<mc:AlternateContent {nsdecls('w')} {mc}><mc:Choice Requires='wps'>{box}</mc:Choice>"
            f"<mc:Fallback>{box}</mc:Fallback></mc:AlternateContent>"
        )
    )
    deleted = "<w:del %s><w:r><w:delText>gone</w:delText></w:r></w:del>"
    made.add_paragraph("kept")._p.append(parse_xml(deleted % nsdecls("w")))
    made.save(str(path))


def slides(path: Path) -> None:
    """Two titled slides, the first with notes, and one without a title that holds a table and a group."""
    made = pptx.Presentation()
    for number in (1, 2):
        slide = made.slides.add_slide(made.slide_layouts[1])
        slide.shapes.title.text = f"Topic {number}"
        slide.placeholders[1].text = f"point {number}"
    made.slides[0].notes_slide.notes_text_frame.text = "spoken"
    slide = made.slides.add_slide(made.slide_layouts[6])
    table = slide.shapes.add_table(1, 2, 0, 0, Inches(4), Inches(1)).table
    table.cell(0, 0).text, table.cell(0, 1).text = "left", "right"
    group = slide.shapes.add_group_shape()
    group.shapes.add_textbox(0, 0, Inches(1), Inches(1)).text_frame.text = "grouped"
    made.save(str(path))
