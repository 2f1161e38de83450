"""Published directories: read, written, refused."""

import json
import shutil

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from published_world import MASK, PUBLISHED, VOCAB, family_of, small
from recorded import RECORDINGS
from safetensors.numpy import load_file, save_file

from mdm_jax.denoisers.base import bind
from mdm_jax.denoisers.pretrained import tensor_files
from mdm_jax.denoisers.pretrained.checkpoints import load, save
from mdm_jax.denoisers.pretrained.network import PretrainedTransformer
from mdm_jax.denoisers.pretrained.smdm import join_groups, split_groups


@pytest.fixture
def directory(tmp_path):
    """A published directory with LLaDA's layout."""
    save(tmp_path / "model", *small("llada"))
    return tmp_path / "model"


def rewrite(directory, **changes):
    """Change fields of config.json; None takes a field out."""
    fields = json.loads((directory / "config.json").read_text()) | changes
    kept = {name: value for name, value in fields.items() if value is not None}
    (directory / "config.json").write_text(json.dumps(kept))


def equal_trees(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(assert_array_equal, a, b)


# ---- round trips ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["llada_tiny", "dream_tiny", "smdm_tiny"])
def test_a_published_directory_comes_back_byte_for_byte(name, tmp_path):
    source = RECORDINGS / name
    save(tmp_path / "copy", *load(source))
    files = [path / "model.safetensors" for path in (source, tmp_path / "copy")]
    assert files[0].read_bytes() == files[1].read_bytes()
    configs = [json.loads((path.parent / "config.json").read_text()) for path in files]
    assert configs[0] == configs[1]


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_in_several_files_and_back(name, dtype, tmp_path, monkeypatch):
    """Files of at most 500 bytes, found again through the index; every bit is the same."""
    save(tmp_path / "one", *small(name))
    first = load(tmp_path / "one", dtype=dtype)
    monkeypatch.setattr(tensor_files, "FILE_BYTES", 500)
    save(tmp_path / "many", *first)
    files = sorted(path.name for path in (tmp_path / "many").glob("*.safetensors"))
    assert len(files) > 10 and files[0].startswith("model-00001-of-000")
    index = json.loads((tmp_path / "many" / "model.safetensors.index.json").read_text())
    assert sorted(set(index["weight_map"].values())) == files
    again = load(tmp_path / "many")
    assert {leaf.dtype for leaf in jax.tree.leaves(again.denoise.params)} == {jnp.dtype(dtype)}
    equal_trees(again.denoise, first.denoise)
    assert again.info.published.get("torch_dtype") in (None, dtype)


def test_types_are_cast_on_the_way(directory):
    whole, half = load(directory), load(directory, dtype="bfloat16")
    cast = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), whole.denoise.params)
    equal_trees(half.denoise.params, cast)
    assert half.denoise.module.config.dtype == "bfloat16"
    assert whole.denoise.module.config.dtype == "float32"


def test_info_has_what_a_sampler_needs(directory, tmp_path):
    info = load(directory).info
    assert (info.family, info.vocab, info.mask_id, info.eos_id) == ("llada", VOCAB, MASK, 1)
    assert info.pad_id == VOCAB and info.max_length == 32  # not the published 1, which is EOS
    save(tmp_path / "smdm", *small("smdm"))
    info = load(tmp_path / "smdm").info
    assert (info.mask_id, info.eos_id, info.pad_id) == (VOCAB, None, VOCAB + 1)


def test_smdm_packs_per_group():
    """Rows of group g: its queries, then its key, then its value."""
    config = family_of("smdm").config(PUBLISHED["smdm"])  # 4 heads of 4 rows in 2 groups
    packed = np.arange(32)[:, None] * np.ones((1, 16))
    query, key, value = split_groups(packed, config=config)
    assert query[:, 0].tolist() == [*range(8), *range(16, 24)]
    assert key[:, 0].tolist() == [8, 9, 10, 11, 24, 25, 26, 27]
    assert value[:, 0].tolist() == [12, 13, 14, 15, 28, 29, 30, 31]
    assert_array_equal(join_groups(query, key, value, config=config), packed)


# ---- config.json ---------------------------------------------------------------------------------

REFUSED = [
    ("llada", {"rope_scaling": "yarn"}, "rope_scaling = 'yarn'; only None or"),
    ("llada", {"logit_scale": 2}, r"not understood: \{'logit_scale': 2\}"),
    ("llada", {"include_qkv_bias": True}, "include_qkv_bias = True; only False or None"),
    ("llada", {"layer_norm_type": "default"}, "layer_norm_type = 'default'; only 'rms'"),
    ("llada", {"d_model": None}, "lacks d_model"),
    ("llada", {"d_model": "16"}, "d_model = '16'; it must be a number"),
    ("llada", {"embedding_size": 8}, "embedding_size 8 has no room for vocab_size 24"),
    ("llada", {"mask_token_id": 24}, "mask_token_id = 24, but there are 24 rows"),
    ("llada", {"eos_token_id": -1}, "eos_token_id = -1"),
    ("llada", {"n_kv_heads": 3}, "kv_heads 3 must divide heads 4"),
    ("llada", {"model_type": "gpt2"}, "none of the families llada, dream, smdm.*'gpt2'"),
    ("dream", {"tie_word_embeddings": True}, "tie_word_embeddings = True"),
    ("dream", {"use_sliding_window": True}, "use_sliding_window = True"),
    ("dream", {"quantization_config": {}}, "quantization_config"),
    ("smdm", {"mask_token_id": 3}, "mask_token_id is 3, but MASK comes after padded_vocab_size 24"),
    ("smdm", {"rotary_percentage": 0.5}, "rotary_percentage = 0.5; only 1.0"),
    ("llada", {"n_layers": True}, "n_layers = True; it must be a number"),
    ("llada", {"d_model": 16.0}, "d_model = 16.0; it must be a whole number"),
    ("llada", {"rope_theta": 0}, "rope_base must be positive and finite, got 0.0"),
    ("llada", {"rms_norm_eps": float("inf")}, "rms_norm_eps = inf; it must be a number"),
    ("llada", {"mask_token_id": 1.5}, "mask_token_id = 1.5, but there are 24 rows"),
    ("dream", {"head_dim": 8}, "head_dim = 8; only None or 4"),
    ("dream", {"layer_types": ["sliding_attention"]}, "layer_types = .*only None"),
    ("dream", {"rope_parameters": {"rope_theta": 9.0}}, "rope_theta is 100.0, and 9.0"),
    ("dream", {"rope_parameters": {"rope_type": "yarn"}}, "rope_parameters = "),
]


@pytest.mark.parametrize(("name", "changes", "message"), REFUSED)
def test_fields_that_are_not_understood_are_named(name, changes, message, tmp_path):
    save(tmp_path / name, *small(name))
    rewrite(tmp_path / name, **changes)
    with pytest.raises(ValueError, match=message):
        load(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "field", "value", "attribute"),
    [
        ("llada", "rope_theta", 7.0, "rope_base"),
        ("llada", "rms_norm_eps", 0.5, "norm_eps"),
        ("llada", "max_sequence_length", 9, "max_length"),
        ("dream", "rope_theta", 7.0, "rope_base"),
        ("dream", "rms_norm_eps", 0.5, "norm_eps"),
        ("dream", "max_position_embeddings", 9, "max_length"),
        ("smdm", "rope_base", 7, "rope_base"),
        ("smdm", "norm_eps", 0.5, "norm_eps"),
        ("smdm", "block_size", 9, "max_length"),
    ],
)
def test_fields_that_no_shape_would_betray_are_read(name, field, value, attribute):
    config = family_of(name).config(PUBLISHED[name] | {field: value})
    assert getattr(config, attribute) == value


ADMITTED = [
    ("dream", {"use_mrope": False}),
    ("dream", {"layer_types": ["full_attention"] * 2}),
    ("dream", {"head_dim": None}),
    ("dream", {"head_dim": 4}),
    ("dream", {"eos_token_id": [1, 2]}),
    ("dream", {"_attn_implementation_autoset": True, "id2label": {"0": "LABEL_0"}}),
    ("dream", {"rope_theta": None, "rope_parameters": {"rope_theta": 100.0}}),
    ("llada", {"tie_word_embeddings": False}),
    ("llada", {"rope_scaling": None, "pruned_heads": {}, "is_decoder": False}),
    ("llada", {"rope_parameters": {"rope_theta": 500.0, "rope_type": "default"}}),
]


@pytest.mark.parametrize(("name", "changes"), ADMITTED)
def test_fields_without_effect_are_admitted(name, changes):
    family, published = family_of(name), PUBLISHED[name]
    fields = {**published, **changes}
    if changes.get("rope_theta", 0) is None:
        del fields["rope_theta"]
    assert family.config(fields) == family.config(published)
    assert family.ids(fields) == family.ids(published)


# ---- files ---------------------------------------------------------------------------------------


def test_one_error_lists_all_faulty_tensors(directory):
    tensors = load_file(directory / "model.safetensors")
    tensors.pop("model.transformer.ln_f.weight")
    tensors["model.transformer.wpe.weight"] = np.zeros((3, 4), np.float32)
    tensors["model.transformer.wte.weight"] = np.zeros((3, 4), np.float32)
    save_file(tensors, directory / "model.safetensors")
    with pytest.raises(ValueError) as error:
        load(directory)
    said = str(error.value)
    assert "1 missing: model.transformer.ln_f.weight" in said
    assert "1 unexpected: model.transformer.wpe.weight" in said
    assert "model.transformer.wte.weight is (3, 4), not (24, 16)" in said


def test_mixed_types_need_a_choice(directory):
    tensors = load_file(directory / "model.safetensors")
    tensors["model.transformer.ln_f.weight"] = np.ones(16, ml_dtypes.bfloat16)
    save_file(tensors, directory / "model.safetensors")
    with pytest.raises(ValueError, match="stores BF16 and F32; say which dtype"):
        load(directory)
    params = load(directory, dtype="float32").denoise.params
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}


def cut(directory):
    weights = (directory / "model.safetensors").read_bytes()
    (directory / "model.safetensors").write_bytes(weights[:-7])


def list_another(directory):
    write_index(directory, x="model-00002-of-00002.safetensors")


def write_index(directory, **weight_map):
    index = {"weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))


def list_astray(directory):
    save_file({"extra": np.zeros(2, np.float32)}, directory / "other.safetensors")
    write_index(directory, extra="model.safetensors")


def list_outside(directory):
    write_index(directory, extra="../model.safetensors")


def two_without_an_index(directory):
    (directory / "model.safetensors").rename(directory / "a.safetensors")
    save_file({"extra": np.zeros(2, np.float32)}, directory / "b.safetensors")


def two_sources(directory):
    """A stale index beside a single file."""
    save_file({"extra": np.zeros(2, np.float32)}, directory / "model-1.safetensors")
    write_index(directory, extra="model-1.safetensors")


def git_lfs_pointer(directory):
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4976698672\n"
    (directory / "model.safetensors").write_text(text)


DAMAGES = [
    (shutil.rmtree, "is no directory"),
    (lambda d: (d / "model.safetensors").unlink(), r"holds no \*.safetensors"),
    (lambda d: (d / "config.json").unlink(), "has no config.json"),
    (lambda d: (d / "config.json").write_text("{"), "config.json is not JSON"),
    (lambda d: (d / "config.json").write_text("[]"), "config.json is damaged: it is no object"),
    (lambda d: (d / "model.safetensors.index.json").write_text("{}"), "it has no weight_map"),
    (cut, "model.safetensors is damaged"),
    (list_another, "lacks files that .* lists: model-00002-of-00002.safetensors"),
    (list_astray, "names another file than the one that holds extra"),
    (list_outside, "'../model.safetensors' is no name of a file beside it"),
    (two_without_an_index, "2 .*safetensors and no .*cannot be decided"),
    (two_sources, "both model.safetensors and an index of other files"),
    (git_lfs_pointer, "model.safetensors is only a git-lfs pointer .*git lfs pull"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES)
def test_damaged_directories_are_refused(damage, message, directory):
    damage(directory)
    with pytest.raises(ValueError, match=message):
        load(directory)


def test_an_index_decides_which_files_are_read(directory):
    """A further file, such as an adapter, is left alone."""
    first = load(directory).denoise
    (directory / "model.safetensors").rename(directory / "model-1.safetensors")
    tensors = load_file(directory / "model-1.safetensors")
    save_file({"extra": np.zeros(2, np.float32)}, directory / "adapter_model.safetensors")
    write_index(directory, **dict.fromkeys(tensors, "model-1.safetensors"))
    equal_trees(load(directory).denoise, first)
    (directory / "model.safetensors.index.json").unlink()
    (directory / "model-1.safetensors").rename(directory / "model.safetensors")
    equal_trees(load(directory).denoise, first)


def test_config_json_is_utf8_with_or_without_a_mark(directory):
    text = json.dumps({**PUBLISHED["llada"], "_name_or_path": "jürgen"}, ensure_ascii=False)
    (directory / "config.json").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert load(directory).info.published["_name_or_path"] == "jürgen"


def test_weights_are_never_overwritten(directory):
    with pytest.raises(ValueError, match="already holds weights; save to another directory"):
        save(directory, *small("llada"))


def test_fresh_parameters_have_the_layout_of_loaded_ones(directory):
    """Training from scratch and fine-tuning are one thing."""
    denoise = load(directory).denoise
    module = PretrainedTransformer(denoise.module.config)
    fresh = module.init(jax.random.key(0), jnp.zeros(4, int), jnp.ones(4, bool))["params"]
    assert jax.tree.map(jnp.shape, fresh) == jax.tree.map(jnp.shape, denoise.params)
    assert jnp.isfinite(bind(module, fresh)(jnp.zeros(4, int), jnp.ones(4, bool))).all()
