"""Takes walks and fields out of a request: a form, or one file as the whole body."""

import asyncio
from dataclasses import dataclass, field

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from mcl_jax.errors import DataError
from mcl_jax.serving.limits import Limits, RequestError
from mcl_jax.serving.walk_files import Walks, read_walks, too_many_walks

FORM = "multipart/form-data"
FILES = ("application/octet-stream", "application/zip", "application/x-npy", "application/x-npz")
_MOST_FIELDS, _LONGEST_FIELD = 8, 2048


class _InMemory(MultiPartParser):
    """Keeps files in memory: walks are personal data, which no temporary file should hold."""

    spool_max_size = 2**40


@dataclass
class Upload:
    """The walks of a request in their order, and the other fields of its form."""

    walks: Walks = field(default_factory=list)
    fields: dict[str, str] = field(default_factory=dict)

    def check_fields(self, *known: str) -> None:
        """Checks that no field was sent that would be ignored.

        Raises:
            DataError: naming the first such field.
        """
        for name in self.fields.keys() - set(known):
            listed = f"the fields are walk and {' and '.join(known)}" if known else "send files alone"
            raise DataError(f"{name[:100]!r}: is no field of this form; {listed}")


async def read_upload(request: Request, limits: Limits, decoding: asyncio.Semaphore) -> Upload:
    """Reads a request.

    Args:
        request: its body is read as it comes, and its guard bounds that; see `mcl_jax.serving.guard`.
        limits: of the service.
        decoding: lets a few requests at a time unpack their walks.

    Raises:
        RequestError: if it is too large or of another type.
        DataError: if its walks cannot be used, or it has none.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    upload = Upload()
    if kind == FORM:
        files = await _read_form(request, limits, upload)
    elif kind in FILES:
        files = [("body", await request.body())]
    else:
        raise RequestError(
            415, f"Content-Type: is {kind[:100] or 'missing'}; send {FORM} (curl -F walk=@FILE) or {FILES[0]}"
        )
    async with decoding:
        for name, content in files:
            upload.walks += await asyncio.to_thread(read_walks, content, name, limits)
            if len(upload.walks) > limits.walks:
                raise too_many_walks(limits)
    if not upload.walks:
        raise DataError("the request has no walk; send at least one file")
    return upload


async def _read_form(request: Request, limits: Limits, upload: Upload) -> list[tuple[str, bytes]]:
    """Returns name and content of the files of a form; puts its fields into `upload`."""
    parser = _InMemory(
        request.headers,
        request.stream(),
        max_files=limits.entries,
        max_fields=_MOST_FIELDS,
        max_part_size=_LONGEST_FIELD,
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise RequestError(400, f"the form cannot be read: {error.message}") from None
    except (ValueError, LookupError):  # of a head that names no such encoding, for example
        raise RequestError(400, "the form cannot be read: its head is damaged") from None
    files = []
    try:
        if sum(isinstance(value, UploadFile) for _, value in form.multi_items()) > limits.walks:
            raise too_many_walks(limits)
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                files.append((value.filename or name, await value.read()))
            elif name in upload.fields:
                raise DataError(f"{name[:100]!r}: is given twice; give one")
            else:
                upload.fields[name] = value
    finally:
        await form.close()
    return files
