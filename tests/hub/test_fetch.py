"""Remote models are fetched once, compared with their digests, and refused in one line if wrong."""

import json
import pickle
import resource
import signal
from pathlib import Path

import numpy as np
import pytest
from hub_server import COMMIT, Hub

import mcl_jax
from mcl_jax.cli.program import run
from mcl_jax.data.prepare.single_walk import read_walk
from mcl_jax.errors import CheckpointError, ConfigError
from mcl_jax.hub.download import hand_place
from mcl_jax.hub.fetch import fetch, is_here, local_copy, public_name
from mcl_jax.hub.published import PUBLISHED, nearest_names
from mcl_jax.hub.reference import HubFile, WebFile, parse_reference

NAME = "hf://owner/repo/some/model.pt"
FILE = HubFile("owner/repo", "some/model.pt")
CONTENT = bytes(range(256)) * 400


def served(hub: Hub, content: bytes = CONTENT) -> Hub:
    hub.files["owner/repo/some/model.pt"] = content
    return hub


def gets(hub: Hub) -> list[str]:
    return [line for line in hub.asked if line.startswith("GET ")]


@pytest.mark.parametrize(
    ("name", "file"),
    [
        (NAME, FILE),
        (f"{NAME}@v1.2", HubFile("owner/repo", "some/model.pt", "v1.2")),
        (f"{NAME}@refs/pr/6", HubFile("owner/repo", "some/model.pt", "refs/pr/6")),
        ("hf://owner/repo", HubFile("owner/repo", "")),
        ("hf://owner/repo@v1", HubFile("owner/repo", "", "v1")),
        ("https://huggingface.co/owner/repo/resolve/main/some/model.pt?download=true", FILE),
        ("https://huggingface.co/owner/repo/blob/v1/a%20b.pt", HubFile("owner/repo", "a b.pt", "v1")),
        ("https://example.org/m.pt", WebFile("https://example.org/m.pt")),
    ],
)
def test_names_of_remote_files(name, file):
    assert parse_reference(name) == file
    assert parse_reference(str(file)) == file


@pytest.mark.parametrize(
    "name",
    [
        "hf://owner",
        "hf://owner/repo/../other/m.pt",
        "hf://owner/repo/a/../../m.pt",
        "hf://owner/repo//m.pt",
        "hf://owner/repo/m.pt@../x",
        "hf://own er/repo/m.pt",
        "ftp://example.org/m.pt",
        "file:///etc/passwd",
        "https://",
        "http://example.org/m.pt",
    ],
)
def test_an_invalid_remote_name_is_refused(name):
    with pytest.raises(ConfigError, match="://"):
        local_copy(name)


def test_a_published_checkpoint_is_loaded_by_name(hub, checkpoint, monkeypatch, tmp_path):
    """Of the toy sizes: the file says which."""
    monkeypatch.chdir(tmp_path)
    entry = PUBLISHED["gait3d_mcl"]
    hub.files[f"{entry.file.repository}/{entry.file.path}"] = checkpoint
    assert not is_here(entry.file)
    gait = mcl_jax.load("gait3d_mcl")
    assert (gait.name, gait.step, gait.source) == ("gaitbase", 3, "gait3d_mcl")
    assert is_here(entry.file)
    hub.asked.clear()
    mcl_jax.load("gait3d_mcl")
    assert not gets(hub), "asked whether it has changed, and not fetched again"


def test_a_local_file_takes_precedence_over_a_published_name(hub, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("gait3d_mcl").write_bytes(b"")
    assert local_copy("gait3d_mcl") == Path("gait3d_mcl")
    assert not hub.asked


def test_listing_checkpoints_fetches_nothing(hub, capsys):
    assert run(["pretrained"]) == 0
    told = capsys.readouterr().out
    assert all(f"\n{name} " in told for name in PUBLISHED)
    assert run(["pretrained", "--json", "gait3d_mcl"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["published"] == {"all": {"Rank-1": 66.6, "Rank-5": 80.2, "mAP": 55.7}}
    assert facts["here"] is False
    assert not hub.asked


def test_every_published_checkpoint_has_a_recipe_for_its_dataset():
    for name, entry in PUBLISHED.items():
        assert mcl_jax.load_config(name).data.dataset == entry.dataset
        assert parse_reference(str(entry.file)) == entry.file
        assert len(entry.sha256) in (0, 64)
        assert bool(entry.sha256) == bool(entry.bytes)


def test_a_file_that_is_not_the_published_one_is_refused(hub, checkpoint, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    entry = PUBLISHED["gait3d_triplet"]
    hub.files[f"{entry.file.repository}/{entry.file.path}"] = checkpoint
    with pytest.raises(CheckpointError, match=r"is not the published file: its SHA-256 is "):
        mcl_jax.load("gait3d_triplet")
    assert mcl_jax.load(str(entry.file)).name == "gaitbase", "by its address it is what was asked for"


def test_an_interrupted_download_resumes(hub):
    served(hub).cut = 2
    assert fetch(FILE).read_bytes() == CONTENT
    assert len(gets(hub)) == 3


def test_a_failed_download_is_one_line_and_leaves_no_file(hub, tmp_path):
    served(hub).silent = 100
    with pytest.raises(
        CheckpointError, match=rf"^{NAME}: the download failed .*; run the same command to try again$"
    ):
        fetch(FILE)
    assert not is_here(FILE)
    hub.silent = 0
    assert fetch(FILE).read_bytes() == CONTENT


def test_a_wrong_size_is_refused(hub):
    served(hub).surplus = 10
    with pytest.raises(CheckpointError, match=rf"^{NAME}: the download failed"):
        fetch(FILE)
    assert not is_here(FILE)


@pytest.mark.parametrize(
    ("name", "refusal", "told"),
    [
        ("hf://owner/repo/none.pt", None, "there is no file 'none.pt'; http://.*/owner/repo lists its files"),
        (f"{NAME}@v9", None, "there is no revision 'v9'"),
        (
            "hf://owner/other/m.pt",
            None,
            "there is no http://.*/owner/other, or it is private: .* `hf auth login`",
        ),
        (NAME, (401, ""), "there is no http://.*/owner/repo, or it is private"),
        (NAME, (403, "GatedRepo"), "is behind a form: ask for access at http://.*/owner/repo, then log in"),
        (NAME, (500, ""), "cannot be reached, and there is no local copy"),
    ],
)
def test_refusals_of_the_hub_are_one_line(hub, name, refusal, told):
    served(hub).refusal = refusal
    with pytest.raises(CheckpointError, match=rf"^{name}: {told}") as caught:
        local_copy(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("offline", [True, False])
def test_without_network_a_line_says_where_to_put_the_file(hub, monkeypatch, offline):
    if offline:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    else:
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    place = hand_place(FILE)
    with pytest.raises(CheckpointError) as caught:
        fetch(FILE)
    address = f"{'http://127.0.0.1:9' if not offline else hub.address}/owner/repo/resolve/main/some/model.pt"
    assert f"download {address} on another machine, and put it at {place}" in str(caught.value)
    place.parent.mkdir(parents=True)
    place.write_bytes(CONTENT)
    assert fetch(FILE) == place
    assert not hub.asked


def test_local_copies_need_no_network(hub, monkeypatch):
    first = fetch(served(hub) and FILE)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert fetch(FILE) == first


def test_a_file_that_differs_from_the_first_download_is_refused(hub):
    fetch(served(hub) and FILE)
    path = fetch(FILE)
    path.resolve().write_bytes(CONTENT[1:])  # a bad disk, or another publisher
    with pytest.raises(
        CheckpointError, match=rf"^{NAME}: has changed since its first download: .* give this"
    ):
        fetch(FILE)
    assert mcl_jax.hub.fetch.local_copy(path) == path


def test_a_full_disk_is_one_line(hub):
    served(hub)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(CheckpointError, match=rf"^{NAME}: .*File too large") as caught:
            fetch(FILE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert "\n" not in str(caught.value)
    assert not is_here(FILE)


def test_a_file_that_is_not_a_checkpoint_is_refused_in_one_line(hub):
    served(hub)
    with pytest.raises(CheckpointError, match=rf"^{NAME}: .*is not a PyTorch checkpoint"):
        mcl_jax.load(NAME)


def test_a_file_of_a_commit(hub, checkpoint):
    served(hub, checkpoint)
    assert mcl_jax.load(f"{NAME}@{COMMIT}").name == "gaitbase"


def test_a_token_is_not_sent_to_the_storage(hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_IMPLICIT_TOKEN", False)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    fetch(served(hub) and FILE)
    to_hub, to_storage = hub.tokens[0], hub.tokens[-1]
    assert to_hub == "Bearer hf_secret"
    assert to_storage == ""


def test_an_unknown_name_gets_similar_names():
    with pytest.raises(CheckpointError, match="gait3d_mlc: no such run .* such as gait3d_mcl"):
        mcl_jax.load("gait3d_mlc")
    assert nearest_names("Gait3D-MCL")[0] == "gait3d_mcl"


class TestWeb:
    """Files at an address of the web that is no repository's."""

    def test_fetched_once(self, hub, checkpoint):
        hub.files["/files/model.pt"] = checkpoint
        address = f"{hub.address}/files/model.pt"
        assert mcl_jax.load(address).name == "gaitbase"
        assert mcl_jax.load(address).source == address
        assert len(hub.asked) == 1
        assert is_here(WebFile(address))

    def test_a_token_in_the_address_is_neither_logged_nor_recorded(self, hub, checkpoint, caplog):
        hub.files["/files/model.pt"] = checkpoint
        address = f"{hub.address.replace('//', '//user:secret@')}/files/model.pt?token=secret"
        assert public_name(address) == f"{hub.address}/files/model.pt"
        with caplog.at_level("INFO", logger="absl"):
            place = fetch(WebFile(f"{hub.address}/files/model.pt?token=secret"))
        assert "/files/model.pt" in caplog.text
        assert "secret" not in caplog.text
        assert place != fetch(WebFile(f"{hub.address}/files/model.pt"))  # another query, another file

    @pytest.mark.parametrize(("cut", "surplus"), [(1, 0), (0, 10)])
    def test_cut_off_or_of_another_size(self, hub, cut, surplus):
        hub.files["/files/model.pt"] = CONTENT
        hub.cut, hub.surplus = cut, surplus
        with pytest.raises(
            CheckpointError, match=r"received only [\d,]+ of [\d,]+ bytes; run the same command"
        ):
            fetch(WebFile(f"{hub.address}/files/model.pt"))
        hub.surplus = 0
        assert fetch(WebFile(f"{hub.address}/files/model.pt")).read_bytes() == CONTENT

    def test_a_missing_web_file_is_refused(self, hub):
        with pytest.raises(CheckpointError, match="the server answers 404 Not Found; check the address"):
            fetch(WebFile(f"{hub.address}/files/none.pt"))

    def test_no_network(self, hub):
        with pytest.raises(
            CheckpointError, match=r"cannot be reached, .* on another machine, and put it at .*model\.pt"
        ):
            fetch(WebFile("http://127.0.0.1:9/model.pt"))


def test_a_gallery_remembers_the_name(hub, checkpoint, monkeypatch, tmp_path, people):
    monkeypatch.chdir(tmp_path)
    entry = PUBLISHED["casiab_mcl"]
    hub.files[f"{entry.file.repository}/{entry.file.path}"] = checkpoint
    frames = read_walk(people / "004" / "nm-01" / "090" / "090.pkl")
    Path("walk.pkl").write_bytes(pickle.dumps(np.tile(frames, (3, 1, 1))))
    assert run(["enroll", "--gallery=G", "--model=casiab_mcl", "--name=One", "walk.pkl"]) == 0
    assert mcl_jax.open_gallery("G").model.path == "casiab_mcl"
    assert run(["identify", "--gallery=G", "walk.pkl"]) == 0
    assert run(["convert", "--config=casiab_mcl", "--ckpt=casiab_mcl", "--out=R"]) == 1, "sizes differ"
