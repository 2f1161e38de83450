"""Checksums on a real file system."""

import subprocess

import pytest

from mdm_jax.checksums import SUMS, check_sums, file_digest, text_digest, write_sums
from mdm_jax.errors import MdmError


@pytest.fixture
def written(tmp_path):
    for name in ("a/one", "a/deep/two", "b/three", "top"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    write_sums(tmp_path, "*/**/*")
    return tmp_path


def test_sums_are_those_of_sha256sum(written):
    assert text_digest("abc") == "ba7816bf8f01cfea"  # FIPS 180-2, appendix B.1
    assert file_digest(written / "top")[:16] == text_digest("top")
    subprocess.run(["sha256sum", "--check", "--quiet", SUMS], cwd=written, check=True)
    assert "top" not in (written / SUMS).read_text()


def test_every_flipped_bit_is_found(written):
    check_sums(written)
    for path in (written / "a/one", written / "b/three"):
        whole = path.read_bytes()
        for bit in range(8 * len(whole)):
            flipped = int.from_bytes(whole) ^ 1 << bit
            path.write_bytes(flipped.to_bytes(len(whole)))
            with pytest.raises(MdmError, match=f"{path} is damaged: it is not what was written"):
                check_sums(written)
        path.write_bytes(whole)
    check_sums(written)


def test_only_the_parts_that_are_read_are_compared(written):
    (written / "a/deep/two").unlink()
    with pytest.raises(MdmError, match="a/deep/two is damaged"):
        check_sums(written)
    check_sums(written, ("b",))
    (written / "later").write_text("not listed")
    check_sums(written, ("b",))


def test_damaged_sums_are_damage_and_missing_ones_are_not(written):
    sums = (written / SUMS).read_bytes()
    for content in (b"\0" * 70, b"\xff" + sums):
        (written / SUMS).write_bytes(content)
        with pytest.raises(MdmError, match="is damaged"):
            check_sums(written)
    for content in (b"", b"garbage\n", sums.replace(b"  b/", b"  c/")):
        (written / SUMS).write_bytes(content)
        with pytest.raises(MdmError, match="SHA256SUMS is damaged"):
            check_sums(written, ("b",))
    (written / SUMS).unlink()
    (written / "a/one").write_text("other")
    check_sums(written)  # written by an earlier version
