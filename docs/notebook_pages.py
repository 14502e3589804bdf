"""A hook of MkDocs: each notebook becomes a page, with the outputs that are stored in it."""

import base64
import json
from pathlib import PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds NAME.md, and a picture for each output that is one, beside each NAME.ipynb."""
    for notebook in [file for file in files if file.src_uri.endswith(".ipynb")]:
        place = PurePosixPath(notebook.src_uri)
        parts = [f"[Download this notebook]({place.name})"]
        for number, cell in enumerate(json.loads(notebook.content_string)["cells"]):
            source = "".join(cell["source"])
            parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
            for output in cell.get("outputs", []):
                if "text" in output:
                    parts.append(f"```text\n{''.join(output['text'])}```")
                elif "image/png" in output.get("data", {}):
                    picture = place.with_name(f"{place.stem}_{number}.png")
                    content = base64.b64decode(output["data"]["image/png"])
                    files.append(File.generated(config, str(picture), content=content))
                    parts.append(f"![What the cell above draws]({picture.name})")
        parts[:2] = reversed(parts[:2])  # the title first
        page = File.generated(config, str(place.with_suffix(".md")), content="\n\n".join(parts))
        files.append(page)
    return files
