"""Task-specific layers against one whole model for each task."""

from __future__ import annotations

import copy

import pytest
import torch
from networks import CASES, TASKS, Attending, InPlace, Plain, Recurrent
from torch import nn

import accord
from accord.errors import AccordError
from accord.restructure import find, norms, task_specific


def losses_of(outputs):
    pairs = outputs.items() if isinstance(outputs, dict) else zip(TASKS, outputs, strict=True)
    return {task: (y * (2 + i)).square().mean() + y.sin().sum() for i, (task, y) in enumerate(pairs)}


def split(case, **options):
    torch.manual_seed(3)
    model, x = case.make(), case.inputs()
    whole = {task: copy.deepcopy(model) for task in TASKS}  # the oracle: a model for each task
    pick = "position" if isinstance(model, Recurrent) else None
    return task_specific(model, case.layers, TASKS, pick=pick), whole, x


def ours(name, task, layers):
    """The name of a parameter of the plain model in the task-specific one."""
    layer = next((layer for layer in layers if name.startswith(f"{layer}.")), None)
    return name if layer is None else f"{layer}.{task}{name.removeprefix(layer)}"


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_gradients_are_those_of_a_model_for_each_task(case):
    model, whole, x = split(case)
    found = losses_of(model(x))
    expected = {task: losses_of(whole[task](x))[task] for task in TASKS}
    parameters = dict(model.named_parameters())
    for task in TASKS:
        torch.testing.assert_close(found[task], expected[task], rtol=0, atol=0)
        expected[task].backward()
        gradients = torch.autograd.grad(found[task], list(parameters.values()), retain_graph=True, allow_unused=True)
        got = dict(zip(parameters, gradients, strict=True))
        for name, p in whole[task].named_parameters():
            torch.testing.assert_close(got.pop(ours(name, task, model.layers)), p.grad, rtol=1e-5, atol=1e-7)
        assert all(gradient is None for gradient in got.values())  # no task touches another's copy


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_statistics_move_once(case):
    model, whole, x = split(case)
    model(x)
    for each in whole.values():
        each(x)
    found = dict(model.named_buffers())
    for task in TASKS:
        for name, buffer in whole[task].named_buffers():
            if name.startswith("heads.") and not name.startswith(f"heads.{task}."):
                continue  # another task's head has seen this task's features there
            if any(name.startswith(layer) for layer in ("third", "bn", "down.1", "stem.1")):
                continue  # shared, after a task-specific layer: moved once by each task
            torch.testing.assert_close(found[ours(name, task, model.layers)], buffer)


def test_what_comes_before_is_called_once():
    model, _, x = split(CASES["transformer"])
    counts = {}
    for name, module in model.base.named_modules():
        if not list(module.children()) and not name.startswith(("heads", "body.layers.2.self_attn.")):

            def counted(*args, name=name, call=module.forward, **kwargs):
                counts[name] = counts.get(name, 0) + 1
                return call(*args, **kwargs)

            module.forward = counted
    model(x)  # finds the heads
    counts.clear()
    model(x)
    assert counts["embed"] == counts["body.layers.0.linear1"] == counts["body.layers.1.norm1"] == 1
    assert counts["body.layers.1.linear2"] == counts["body.layers.2.norm2"] == 3


def test_the_graph_before_the_copies_is_one():
    model, _, x = split(CASES["plain"])
    out = model(x)
    sharing = accord.sharing.discover(model, losses_of(out))
    nodes = [node for node in sharing.graph.order if type(node).__name__ == "NativeBatchNormBackward0"]
    assert len(nodes) == 1 + len(TASKS)  # one of the trunk, and a head for each task


def test_dropout_is_drawn_once():
    net = nn.Sequential(nn.Linear(4, 50), nn.Dropout(0.5), nn.Linear(50, 3))
    model = task_specific(net, "2", ("p", "q"))
    out = model(torch.randn(6, 4))
    torch.testing.assert_close(out["p"], out["q"], rtol=0, atol=0)


def test_functional_dropout_is_drawn_once():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 50), nn.Linear(50, 3)

        def forward(self, x):
            h = nn.functional.dropout(self.a(x), 0.5, self.training) + torch.rand(50)
            return self.b(h * (torch.rand(50) > 0.5))  # twice the same call, two draws

    model = task_specific(Net(), "b", ("p", "q"))
    out = model(torch.randn(6, 4))
    torch.testing.assert_close(out["p"], out["q"], rtol=0, atol=0)


def test_heads_are_computed_by_their_own_task_only():
    model, _, x = split(CASES["plain"])
    seen = []
    for task in TASKS:
        model.base.heads[task][1].register_forward_hook(lambda _, args, y: seen.append(y.requires_grad))
    model(x)
    seen.clear()
    model(x)
    assert seen.count(True) == len(TASKS)
    assert len(seen) <= len(TASKS) * (len(TASKS) + 1) // 2
    assert int(model.base.heads["edges"][0].num_batches_tracked) == 2


class Cascade(nn.Module):
    """The output of one task is an input of the other, but only once a switch is turned."""

    def __init__(self):
        super().__init__()
        self.body, self.one, self.two = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 1)
        self.on = False

    def forward(self, x):
        h = self.body(x)
        first = self.one(h)
        return {"a": first, "b": self.two(h + first) if self.on else self.two(h)}


@pytest.mark.parametrize("late", [False, True])
def test_a_head_that_feeds_another_task_is_none(late):
    torch.manual_seed(0)
    net, x = Cascade(), torch.randn(5, 3)
    plain = copy.deepcopy(net)
    model = task_specific(net, "body", ("b", "a"))
    net.on = not late
    model(x)
    net.on = plain.on = True
    (found,) = torch.autograd.grad(model(x)["b"].sum(), [net.one.weight])
    (expected,) = torch.autograd.grad(plain(x)["b"].sum(), [plain.one.weight])
    torch.testing.assert_close(found, expected)


def test_training_everything_task_specific_is_training_k_models():
    torch.manual_seed(0)
    model = Plain()
    model.shift.requires_grad_(False)
    whole = {task: copy.deepcopy(model) for task in TASKS}
    specific = task_specific(model, ["first", "norm", "second", "third"], TASKS)
    optimizer = torch.optim.Adam(specific.parameters(), lr=0.01)
    alone = {task: torch.optim.Adam(each.parameters(), lr=0.01) for task, each in whole.items()}
    for _ in range(4):
        x = torch.randn(9, 6)
        optimizer.zero_grad()
        sum(losses_of(specific(x)).values()).backward()
        optimizer.step()
        for task, each in whole.items():
            alone[task].zero_grad()
            losses_of(each(x))[task].backward()
            alone[task].step()
    parameters = dict(specific.named_parameters())
    for task, each in whole.items():
        for name, p in each.named_parameters():
            if not name.startswith("heads.") or name.startswith(f"heads.{task}."):
                assert torch.equal(parameters[ours(name, task, specific.layers)], p), name


def test_copies_go_their_own_ways():
    model, _, x = split(CASES["plain"])
    losses_of(model(x))["edges"].backward()
    with torch.no_grad():
        for p in model.parameters():
            p -= 0.1 * (p.grad if p.grad is not None else 0)
    copies = model.copies()["second"]
    assert torch.equal(copies.depth.weight, copies.light.weight)
    assert not torch.equal(copies.depth.weight, copies.edges.weight)


def test_evaluation_is_the_same():
    model, whole, x = split(CASES["transformer"])
    model.eval()
    assert not model.base.training
    with torch.no_grad():
        out, expected = model(x), whole["depth"].eval()(x)
    for task in TASKS:
        torch.testing.assert_close(out[task], expected[task])


def test_deep_copies_are_independent():
    model, _, x = split(CASES["plain"])
    model(x)
    twin = copy.deepcopy(model)
    assert twin.base is not model.base
    assert [name for name, _ in twin.named_parameters()] == [name for name, _ in model.named_parameters()]
    with torch.no_grad():
        twin.copies()["second"].edges.weight.zero_()
        twin.eval(), model.eval()
        assert not torch.equal(twin(x)["edges"], model(x)["edges"])
        assert torch.equal(twin(x)["depth"], model(x)["depth"])


def test_state_goes_round():
    model, _, x = split(CASES["resnet18"])
    other, _, _ = split(CASES["resnet18"])
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p))
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(model(x).values(), other(x).values(), strict=True))


def test_the_model_moves_as_a_whole():
    model, _, x = split(CASES["plain"])
    model.double()
    assert model(x.double())["depth"].dtype == torch.float64
    assert model.base.second.edges.weight.dtype == torch.float64


def test_one_task_at_a_time():
    torch.manual_seed(0)
    trunk, heads = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4)), {t: nn.Linear(4, 1) for t in "ab"}
    model, x = task_specific(trunk, "2", ("a", "b")), torch.randn(5, 3)
    plain = {}
    for task in "ab":
        with model.on(task):
            plain[task] = heads[task](model(x))
    calls = []
    trunk[0].register_forward_hook(lambda *a: calls.append(a[2]))
    with model.one_pass():
        for task in "ab":
            with model.on(task):
                assert torch.equal(heads[task](model(x)), plain[task])
    assert calls[0] is calls[1]
    assert isinstance(trunk[2], accord.restructure.Copies)


def test_an_error_leaves_the_model_as_it_was():
    model, _, x = split(CASES["plain"])
    with pytest.raises(RuntimeError):
        model(torch.ones(2, 99))
    assert "forward" not in vars(model.base.first)
    assert torch.overrides._get_current_function_mode() is None
    assert isinstance(model.base.second, accord.restructure.Copies)
    assert set(model(x)) == set(TASKS)


def test_nothing_is_kept_after_a_pass():
    import gc
    import weakref

    model, _, x = split(CASES["plain"])
    model(x)
    kept = []
    model.base.first.register_forward_hook(lambda *a: kept.append(weakref.ref(a[2])))
    out = model(x)
    del out
    gc.collect()
    assert [ref() for ref in kept] == [None] * len(kept)


class Writes(nn.Module):
    def __init__(self, write):
        super().__init__()
        self.a, self.b, self.write = nn.Linear(3, 3), nn.Linear(3, 3), write

    def forward(self, x):
        return self.write(torch.tanh(self.a(x)) * 1, self.b(x))


def _set(h, own):
    h[:, :3] = own
    return h


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("write", [lambda h, own: h.add_(own), _set, lambda h, own: h.view(-1).mul_(own.view(-1))])
def test_what_the_model_writes_over_is_copied(write, grad):
    torch.manual_seed(0)
    net, x = Writes(write), torch.randn(2, 3)
    plain, model = copy.deepcopy(net), task_specific(net, "b", ("p", "q"))
    with torch.set_grad_enabled(grad):
        for _ in range(2):
            out, expected = model(x), plain(x)
            torch.testing.assert_close(out["p"], expected)
            torch.testing.assert_close(out["q"], expected)
    if grad:
        got = torch.autograd.grad(out["q"].sin().sum(), net.a.weight)
        torch.testing.assert_close(got, torch.autograd.grad(expected.sin().sum(), plain.a.weight))


def test_writing_over_the_input_is_refused():
    class Net(Plain):
        def forward(self, x):
            x += self.second(torch.ones(8))[:6]
            return super().forward(x)

    with pytest.raises(AccordError, match="changed in place"):
        task_specific(Net(), "second", TASKS)(torch.randn(4, 6))


def test_writing_a_buffer_after_the_copies_is_allowed_in_modules():
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    model = task_specific(net, "0", ("p", "q"))
    model(torch.randn(4, 3))["p"].sum().backward()
    assert int(net[1].num_batches_tracked) == 2  # a shared norm after the copies sees each task's features


def test_weights_used_twice_in_a_pass():
    torch.manual_seed(0)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.drop = nn.Linear(3, 3), nn.Linear(3, 3), nn.Dropout(0.5)

        def forward(self, x):
            h = self.drop(self.a(x)) - self.drop(self.a(x))  # the same call twice, two masks
            return self.b(self.b(h))

    model = task_specific(Net(), "b", ("p", "q"))
    out = model(torch.randn(64, 3))
    assert torch.equal(out["p"], out["q"])
    assert out["p"].std() > 0.01


def test_keywords_and_nested_results():
    class Inner(nn.Module):
        def __init__(self):
            super().__init__()
            self.f, self.drop = nn.Linear(3, 3), nn.Dropout(0.5)

        def forward(self, x, *, scale, parts=()):
            y = self.drop(self.f(x)) * scale
            return {"y": y, "more": [y + 1, (y + 2, None)]}

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.b = Inner(), nn.Linear(3, 3)

        def forward(self, x):
            found = self.inner(x, scale=2.0, parts=[x, x])
            return self.b(found["y"] + found["more"][1][0])

    out = task_specific(Net(), "b", ("p", "q"))(torch.randn(20, 3))
    assert torch.equal(out["p"], out["q"])


def test_methods_that_change_a_layer_reach_every_copy():
    class Positive(nn.Linear):
        def project_(self):
            with torch.no_grad():
                self.weight.clamp_(min=0)

    net = nn.Sequential(nn.Linear(3, 3), Positive(3, 3))
    model = task_specific(net, "1", ("p", "q"))
    net[1].project_()
    assert all(bool((copy.weight >= 0).all()) for copy in model.copies()["1"].children())
    with pytest.raises(AttributeError):
        _ = net[1].weight


def test_what_is_picked():
    x = torch.randn(4, 5).long().abs()
    model = task_specific(Recurrent(), "upper", TASKS, pick=lambda out, task: out[TASKS.index(task)])
    assert set(model(x)) == set(TASKS)
    assert isinstance(task_specific(Recurrent(), "upper", TASKS, pick="position")(x), tuple)
    with pytest.raises(AccordError, match="a tuple of 3, and it is not clear"):
        task_specific(Recurrent(), "upper", TASKS)(x)
    with pytest.raises(AccordError, match="Did you mean 'position'"):
        task_specific(Recurrent(), "upper", TASKS, pick="postion")
    with pytest.raises(AccordError, match="a dict with depth, edges, light"):
        task_specific(Plain(), "second", ("p", "q"))(torch.randn(3, 6))


@pytest.mark.parametrize(
    ("layers", "tasks", "message"),
    [
        ("secnd", TASKS, "Did you mean 'second'"),
        ("zzzzzzz", TASKS, "Its parts: first, norm"),
        ("zz.*", TASKS, "means no module of the model with parameters"),
        ("", TASKS, "the whole model"),
        ([], TASKS, "names no layer"),
        (["heads.edges"], TASKS, "it is a head"),
        ("heads", TASKS, "nothing but heads"),
        ("second", ("a",), "at least two tasks"),
        ("second", "ab", "at least two tasks"),
        ("second", ("a", "b", "a"), "'a' is named twice"),
        ("second", ("a.b", "c"), "cannot be the name of a module"),
        ("second", ("train", "c"), "cannot be the name of a module"),
    ],
)
def test_mistakes(layers, tasks, message):
    with pytest.raises(AccordError, match=message):
        task_specific(Plain(), layers, tasks)


def test_layers_that_cannot_be_had():
    with pytest.raises(AccordError, match="'stem.0' is part of 'stem'"):
        task_specific(InPlace(), ["stem", "stem.0"], TASKS)
    with pytest.raises(AccordError, match="has no parameters"):
        task_specific(InPlace(), "relu", TASKS)
    tied = Attending()
    tied.heads["edges"].weight = tied.heads["depth"].weight
    with pytest.raises(AccordError, match="are the same tensor"):
        find(tied, ["heads.edges"])
    again = nn.Sequential(layer := nn.Linear(2, 2), layer)
    with pytest.raises(AccordError, match="are the same tensor"):
        task_specific(again, "0", TASKS)
    normed = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)))
    with pytest.raises(AccordError, match="parametrised"):
        task_specific(normed, "0", TASKS)
    done = task_specific(Plain(), "second", TASKS)
    with pytest.raises(AccordError, match="task-specific already, in second"):
        task_specific(done, "third", TASKS)


@pytest.mark.slow
def test_compiled_parts():
    net, x = Plain(), torch.randn(7, 6)
    plain = copy.deepcopy(net)
    net.first.compile(backend="eager")
    net.third = torch.compile(net.third, backend="eager")
    model = task_specific(net, "second", TASKS)
    whole = torch.compile(copy.deepcopy(model), backend="eager")
    for _ in range(2):
        out, also, expected = model(x), whole(x), plain(x)
        assert torch.equal(out["edges"], expected["edges"])
        assert torch.equal(also["edges"], expected["edges"])
    with pytest.raises(AccordError, match="within a compiled module"):
        task_specific(torch.compile(Plain()), "_orig_mod.second", TASKS)


def test_a_head_is_found_out_at_the_first_pass():
    model = task_specific(Cascade(), "two", ("a", "b"))
    with pytest.raises(AccordError, match="'two' is not used by the task 'a', only by b: it is a head"):
        model(torch.randn(2, 3))


def test_runs_are_asked_for_properly():
    model, _, x = split(CASES["plain"])
    with pytest.raises(AccordError, match="Did you mean 'edges'"), model.on("edge"):
        pass
    with model.on("edges"), pytest.raises(AccordError, match="leave that before"), model.on("depth"):
        pass
    with model.one_pass(), pytest.raises(AccordError, match="begun already"), model.one_pass():
        pass
    with pytest.raises(AccordError, match="no task is at hand"):
        model.base(x)


def test_norms_are_the_cheap_form():
    assert norms(Plain(), TASKS) == ["norm"]
    assert norms(InPlace()) == ["stem.1", "bn", "down.1"]
    assert len(norms(Attending())) == 6
    assert norms(nn.Sequential(nn.BatchNorm1d(2, affine=False), nn.Linear(2, 2))) == []
    model = task_specific(Attending(), norms(Attending()), TASKS)
    assert sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in Attending().parameters()) == 6 * 16 * 2


def test_a_function_that_knows_nothing_of_copies():
    model, whole, x = split(CASES["plain"])
    found = model.by_task(lambda: losses_of(model(x)))
    torch.testing.assert_close(found["edges"], losses_of(whole["edges"](x))["edges"], rtol=0, atol=0)
    assert set(model.by_task(lambda: {"edges": losses_of(model(x))["edges"]})) == {"edges"}
    with torch.no_grad():
        assert set(model.by_task(lambda: losses_of(model(x)), remember=False)) == set(TASKS)
