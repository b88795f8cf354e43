"""Power cuts of a disk with local files."""

from tests.support.disk_images import Journal
from tests.support.disk_watch import Act, Deed
from tests.support.power_cuts import run_power_cuts
from tests.support.report import counted
from tests.support.seeds import choices, chosen_seed

IMAGES = 60


async def test_whatever_a_power_cut_leaves_nothing_acknowledged_is_lost_and_a_start_is_enough(
    tmp_path, record_property
):
    seed = chosen_seed()
    record_property("figures", f"seed {seed}")

    figures = await run_power_cuts(tmp_path, seed, IMAGES)

    record_property("figures", counted(figures))
    assert figures["images"] >= IMAGES
    assert figures["acknowledged events"] > IMAGES


def images(journal, folder):
    """Every image there may be of a small disk: its files' contents by name."""
    found = set()
    folder.mkdir()
    for number in range(200):
        target = folder / f"image{number}"
        journal.cut(journal.place, choices(number), target)
        files = [one for one in target.rglob("*") if one.is_file()]
        found.add(frozenset((str(one.relative_to(target)), one.read_bytes()) for one in files))
    return found


def written(root, name, content):
    (root / name).write_bytes(content)
    return f"{root}/{name}"


def test_an_image_has_what_was_flushed_and_any_part_of_what_was_not(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    journal = Journal(root)
    path = written(root, "1", b"x" * 600)
    journal(Act(Deed.FLUSHES_FILE, path))
    journal(Act(Deed.RENAMES, path, f"{root}/a"))
    journal(Act(Deed.FLUSHES_FOLDER, str(root)))
    whole = ("a", b"x" * 600)
    assert images(journal, tmp_path / "flushed") == {frozenset([whole])}

    journal(Act(Deed.LINKS, written(root, "2", b"y" * 600), f"{root}/b"))
    journal(Act(Deed.REMOVES, f"{root}/a"))

    found = images(journal, tmp_path / "more")
    contents = [b"y" * 600, b"", b"y" * 512, bytes(600)]
    links = [frozenset([("b", content)]) for content in contents]
    assert found == {
        kept | link for kept in (frozenset([whole]), frozenset()) for link in (*links, frozenset())
    }


def test_a_folder_that_is_not_flushed_takes_with_it_what_was_flushed_in_it(tmp_path):
    root = tmp_path / "root"
    (root / "f").mkdir(parents=True)
    path = written(root, "f/1", b"x")
    (root / "f" / "1").unlink()
    (root / "f").rmdir()
    journal = Journal(root)
    (root / "f").mkdir()
    written(root, "f/1", b"x")
    journal(Act(Deed.MAKES_FOLDER, f"{root}/f"))
    journal(Act(Deed.FLUSHES_FILE, path))
    journal(Act(Deed.FLUSHES_FOLDER, f"{root}/f"))

    assert images(journal, tmp_path / "not") == {frozenset(), frozenset([("f/1", b"x")])}

    journal(Act(Deed.FLUSHES_FOLDER, str(root)))
    assert images(journal, tmp_path / "flushed") == {frozenset([("f/1", b"x")])}
