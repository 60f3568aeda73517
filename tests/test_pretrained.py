import inspect
import json
import re
import struct

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from safetensors.numpy import load_file, save_file

import jax_lbfgs_pi as lp
from jax_lbfgs_pi import pretrained
from tests.marks import some_of


def products_of(seed):
    """Inner products of random vectors with dᵀg < 0."""
    V = np.random.default_rng(seed).normal(size=(7, 4))
    V[:, 0] *= -np.sign(V[:, 0] @ V[:, 1])
    return lp.inner_products(*(jnp.array(column) for column in V.T))


def assert_identical(a, b):
    # A policy's network is static, and so a part of its structure.
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert np.asarray(x).dtype == np.asarray(y).dtype
        assert np.shape(x) == np.shape(y)
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


# --- saving and loading ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"width": 3},
        {"tau_min": -1.25, "tau_max": 0.1},
        {"learn_limits": True, "tau_min": -2.0},
    ],
)
def test_round_trip_is_bit_exact(tmp_path, options):
    policy = lp.init_policy(jax.random.key(0), **options)
    path = lp.save_policy(policy, tmp_path / "mine.safetensors")
    loaded = lp.load_policy(path)
    assert_identical(loaded, policy)
    for name, value in options.items():
        assert getattr(loaded.network, name) == value
    for seed in range(5):
        assert float(loaded(products_of(seed))) == float(policy(products_of(seed)))


def test_a_folder_is_no_place_for_a_policy(tmp_path):
    for path in (tmp_path, f"{tmp_path}/new/"):
        with pytest.raises(IsADirectoryError, match="Name a file in the folder"):
            lp.save_policy(lp.cosine_policy(), path)
    assert not list(tmp_path.parent.glob("*.safetensors"))
    for name in (None, 3):
        with pytest.raises(TypeError, match="takes a name, such as 'general', or a path"):
            inspect.unwrap(lp.load_policy)(name)


def test_values_that_text_would_lose_survive(tmp_path):
    policy = lp.init_policy(jax.random.key(1))
    odd = np.array([np.nextafter(1.0, 2.0), 5e-324, -0.0, 1e308, 0.1, -np.pi])
    params = jax.tree.map(np.asarray, policy.params)
    params["params"]["linear1"]["bias"] = odd
    loaded = lp.load_policy(lp.save_policy(policy.replace(params=params), tmp_path / "odd"))
    assert loaded.params["params"]["linear1"]["bias"].tobytes() == odd.tobytes()


def test_parameters_that_are_not_contiguous_are_saved_as_they_are(tmp_path):
    policy = lp.init_policy(jax.random.key(2))
    params = jax.tree.map(np.asarray, policy.params)
    kernel = params["params"]["linear1"]["kernel"]
    params["params"]["linear1"]["kernel"] = np.asfortranarray(kernel)
    loaded = lp.load_policy(lp.save_policy(policy.replace(params=params), tmp_path / "f"))
    np.testing.assert_array_equal(loaded.params["params"]["linear1"]["kernel"], kernel)


def test_the_clip_is_saved_in_its_deployed_form(tmp_path):
    policy = lp.init_policy(jax.random.key(3)).with_clip_layer("implicit")
    loaded = lp.load_policy(lp.save_policy(policy, tmp_path / "p"))
    assert loaded.network.clip_layer == "clip"
    assert_identical(loaded, policy.with_clip_layer("clip"))
    assert policy.network.clip_layer == "implicit"  # which itself stays as it was


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("mine", "mine.safetensors"),
        ("mine.safetensors", "mine.safetensors"),
        ("tuned-0.5", "tuned-0.5.safetensors"),
        ("a/b/mine", "a/b/mine.safetensors"),
    ],
)
@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_suffix_and_folders_are_added_and_the_path_returned(tmp_path, given, written, kind):
    path = lp.save_policy(lp.cosine_policy(), kind(tmp_path / given))
    assert path == tmp_path / written
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]
    assert_identical(lp.load_policy(kind(path)), lp.cosine_policy())


def test_equal_policies_are_equal_files(tmp_path):
    first, second = (
        lp.save_policy(lp.init_policy(jax.random.key(4)), tmp_path / name).read_bytes()
        for name in ("a", "b")
    )
    assert first == second


def test_the_file_is_plain_safetensors(tmp_path):
    """Anyone can read it without this package."""
    policy = lp.init_policy(jax.random.key(5))
    tensors = load_file(lp.save_policy(policy, tmp_path / "p"))
    assert sorted(tensors) == [
        "params/linear1/bias", "params/linear1/kernel",
        "params/linear2/bias", "params/linear2/kernel",
    ]  # fmt: skip
    assert sum(tensor.size for tensor in tensors.values()) == 204


@pytest.mark.parametrize("other", [{"params": {}}, None, "unit", lambda products: products.gg])
def test_only_policies_can_be_saved(tmp_path, other):
    """Called past the run-time type checks of these tests, as a user would."""
    save = getattr(lp.save_policy, "__wrapped__", lp.save_policy)
    with pytest.raises(
        TypeError, match="save_policy saves a Policy, a General or a Rule, but got a"
    ):
        save(other, tmp_path / "p")
    assert list(tmp_path.iterdir()) == []


# --- while tracing --------------------------------------------------------------------------------


def test_a_file_can_be_loaded_while_a_function_is_traced(tmp_path):
    policy = lp.init_policy(jax.random.key(6))
    path, kept = lp.save_policy(policy, tmp_path / "p"), []

    @jax.jit
    def step(products):
        kept.append(lp.load_policy(path))
        return kept[-1](products)

    for seed in range(2):
        np.testing.assert_allclose(step(products_of(seed)), policy(products_of(seed)), rtol=1e-12)
    assert len(kept) == 1  # traced once
    assert_identical(kept[0], policy)  # and no tracer came out of it
    np.testing.assert_allclose(kept[0](products_of(3)), policy(products_of(3)), rtol=1e-14)


@pytest.mark.parametrize("name", some_of([None, *lp.list_policies()], quick=(0, 1, 2)))
def test_a_first_use_while_tracing_leaves_no_tracer_behind(name):
    def step(x):
        tx = lp.lbfgs_pi(None if name is None else lp.load_policy(name))
        updates, _ = tx.update(2.0 * x, tx.init(x), x)
        return optax.apply_updates(x, updates)

    x = jnp.array([1.0, -2.0])
    inside = [jax.jit(lambda x, i=i: step(x) + 0.0 * i)(x) for i in range(2)]
    outside = step(x)
    mapped = jax.jit(jax.vmap(step))(jnp.stack([x, x]))
    for result in [*inside, *mapped]:
        np.testing.assert_allclose(result, outside, rtol=1e-14)
    assert np.any(np.asarray(outside) != np.asarray(x))


def test_what_serves_as_a_policy():
    """By itself, by its name, by a function, and the default by none of these."""
    rule = lp.Rule(cap=3.0)
    assert pretrained.as_policy(rule) is rule
    assert_identical(pretrained.as_policy(None), lp.load_policy(pretrained.DEFAULT))
    network = lp.load_policy("paper-mnist")
    products = products_of(0)
    for given in (network, "paper-mnist", lambda products: network(products)):
        policy = pretrained.as_policy(given)
        assert isinstance(policy, lp.StepPolicy)
        assert policy.function(products) == network(products)
    with pytest.raises(ValueError, match="no network of the paper's form"):
        pretrained.load_network("rule")


def test_a_rule_is_saved_with_all_its_settings(tmp_path):
    rule = lp.Rule(omega_power=0.25, least_omega=0.2)
    assert_identical(lp.load_policy(lp.save_policy(rule, tmp_path / "rule")), rule)
    assert pretrained.policy_digest(rule) != pretrained.policy_digest(lp.Rule())


# --- the shipped policies -------------------------------------------------------------------------


def test_the_list_is_sorted_and_has_the_default():
    names = lp.list_policies()
    assert names == sorted(set(names))
    assert {"cosine", "unit", pretrained.DEFAULT} <= set(names)


@pytest.mark.parametrize("name", lp.list_policies())
def test_every_shipped_policy_loads_and_has_a_card(name):
    policy = lp.load_policy(name)
    if isinstance(policy, lp.Policy):
        low, high = np.exp(policy.network.tau_min), np.exp(policy.network.tau_max)
        for seed in range(5):
            assert low * (1 - 1e-12) <= float(policy(products_of(seed))) <= high * (1 + 1e-12)
    else:
        assert isinstance(policy, lp.StepPolicy)
    title, blank, summary, *_ = lp.policy_card(name).splitlines()
    assert title == f"# {name}"
    assert blank == ""
    assert summary.strip().endswith(".")


@pytest.mark.parametrize("name", lp.list_policies())
def test_every_shipped_policy_survives_being_saved(tmp_path, name):
    policy = lp.load_policy(name)
    assert_identical(lp.load_policy(lp.save_policy(policy, tmp_path / name)), policy)


def test_the_hand_set_ones_are_what_they_are_called():
    for seed in range(5):
        products = products_of(seed)
        assert float(lp.load_policy("unit")(products)) == 1.0
        cosine = -float(products.dg) / np.sqrt(float(products.dd) * float(products.gg))
        expected = max(cosine, np.exp(-3.0))
        np.testing.assert_allclose(lp.load_policy("cosine")(products), expected, rtol=1e-12)


@pytest.mark.parametrize("name", ["units", "", "no/such/file", "no-such.safetensors"])
def test_unknown_policy_says_what_there_is(name):
    with pytest.raises(ValueError, match="Unknown policy") as caught:
        lp.load_policy(name)
    assert repr(name) in str(caught.value)
    for known in lp.list_policies():
        assert known in str(caught.value)


def test_a_folder_is_no_policy(tmp_path):
    with pytest.raises(ValueError, match="Unknown policy"):
        lp.load_policy(tmp_path)


def test_unknown_card():
    with pytest.raises(ValueError, match="Unknown policy 'units': choose one of cosine"):
        lp.policy_card("units")


# --- damaged files --------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    """A policy file, its bytes, and where its tensors begin."""
    policy = lp.init_policy(jax.random.key(7), tau_min=-2.5)
    path = lp.save_policy(policy, tmp_path / "p")
    content = path.read_bytes()
    header = 8 + struct.unpack("<Q", content[:8])[0]
    return path, content, header


def test_a_truncated_file_is_refused(saved):
    path, content, header = saved
    lengths = [0, 1, 7, 8, 9, header // 2, header - 1, header, header + 1, len(content) - 1]
    for length in [*lengths, *range(0, len(content), 97)]:
        path.write_bytes(content[:length])
        with pytest.raises(lp.PolicyFileError, match=r"p\.safetensors"):
            lp.load_policy(path)


def test_bytes_too_many_are_refused(saved):
    path, content, _ = saved
    path.write_bytes(content + b"\0")
    with pytest.raises(lp.PolicyFileError):
        lp.load_policy(path)


@pytest.mark.parametrize("bit", [0x01, 0x10, 0x80])
def test_a_flipped_bit_among_the_tensors_is_refused(saved, bit):
    path, content, header = saved
    for position in range(header, len(content), 11):
        damaged = bytearray(content)
        damaged[position] ^= bit
        path.write_bytes(damaged)
        with pytest.raises(lp.PolicyFileError, match="altered"):
            lp.load_policy(path)


@pytest.mark.parametrize("bit", [0x01, 0x02, 0x04, 0x10, 0xFF])
def test_a_flipped_bit_in_the_header_never_gives_another_policy(saved, bit):
    """Refused, or (a blank of the padding, say) the very same policy."""
    path, content, header = saved
    policy, refused = lp.load_policy(path), 0
    for position in range(header):
        damaged = bytearray(content)
        damaged[position] ^= bit
        path.write_bytes(damaged)
        try:
            loaded = lp.load_policy(path)
        except lp.PolicyFileError:
            refused += 1
        else:
            assert_identical(loaded, policy)
    assert refused > 0.9 * header


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (rb"-2\.5", b"-2.4"),
        (rb"(width\W+)6", rb"\g<1>7"),
        (rb"policy\.v1", b"policy.v2"),
        (rb"linear1/bias", b"linear3/bias"),
        (rb"(learn_limits\W+)false", rb"\g<1> true"),
    ],
)
def test_edited_metadata_is_refused(saved, old, new):
    path, content, _ = saved
    edited, count = re.subn(old, new, content)
    assert (count, len(edited)) == (1, len(content))
    path.write_bytes(edited)
    with pytest.raises(lp.PolicyFileError):
        lp.load_policy(path)


def test_swapped_tensors_are_refused(saved):
    """As many bytes, the same numbers, another policy."""
    path, content, header = saved
    names = json.loads(content[8:header])
    offsets = {k: v["data_offsets"] for k, v in names.items() if k.endswith("kernel")}
    (a, b), (c, d) = offsets.values()
    body = bytearray(content[header:])
    body[a:b], body[c:d] = body[c:d], body[a:b]
    path.write_bytes(content[:header] + body)
    with pytest.raises(lp.PolicyFileError, match="altered"):
        lp.load_policy(path)


@pytest.mark.parametrize("content", [b"", b"not a policy", b"\x80\x04N.", b"PK\x03\x04" * 50])
def test_other_kinds_of_files_are_refused(tmp_path, content):
    (tmp_path / "p.safetensors").write_bytes(content)
    with pytest.raises(lp.PolicyFileError, match="truncated or not a safetensors file"):
        lp.load_policy(tmp_path / "p.safetensors")


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"policy": "ppo"}, {"policy": "3"}])
def test_a_safetensors_file_of_something_else_is_refused(tmp_path, metadata):
    path = tmp_path / "model.safetensors"
    save_file({"weight": np.ones(3)}, path, metadata)
    with pytest.raises(lp.PolicyFileError, match=r"'model\.safetensors' is .*not a"):
        lp.load_policy(path)


def test_policy_file_errors_are_value_errors():
    assert issubclass(lp.PolicyFileError, ValueError)


# --- atomic writing -------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
@pytest.mark.parametrize("function", ["replace", "fsync"])
@pytest.mark.parametrize("existing", [True, False])
def test_a_failure_while_writing_leaves_what_was_there(
    monkeypatch, tmp_path, function, error, existing
):
    path, old = tmp_path / "p.safetensors", None
    if existing:
        lp.save_policy(lp.init_policy(jax.random.key(8)), path)
        old = path.read_bytes()

    def fail(*args):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(f"jax_lbfgs_pi.files.os.{function}", fail)
        with pytest.raises(type(error)):
            lp.save_policy(lp.cosine_policy(), path)
    assert list(tmp_path.iterdir()) == ([path] if existing else [])
    if existing:
        assert path.read_bytes() == old
    lp.save_policy(lp.cosine_policy(), path)  # and nothing stands in the way of the next attempt
    assert_identical(lp.load_policy(path), lp.cosine_policy())
