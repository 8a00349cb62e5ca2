import copy

import pytest
import torch
from torch import nn

from common.ranger import Ranger, load_released_state


def problem(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)), torch.randn(16, 4), torch.randn(16, 2)


def train(model, optimizer, x, y, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        (model(x) - y).square().mean().backward()
        optimizer.step()


def reference_ranger(weight, gradient, steps, lr=0.01, beta1=0.95, beta2=0.999, eps=1e-5, alpha=0.5, k=6):
    """The published rule, one number after the other."""
    slow, mean, square = weight, 0.0, 0.0
    longest = 2 / (1 - beta2) - 1
    for t in range(1, steps + 1):
        g = gradient(weight)
        mean, square = beta1 * mean + (1 - beta1) * g, beta2 * square + (1 - beta2) * g * g
        length = longest - 2 * t * beta2**t / (1 - beta2**t)
        step = lr * mean / (1 - beta1**t)
        if length > 5:
            rectified = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
            step *= (rectified * (1 - beta2**t)) ** 0.5 / (square**0.5 + eps)
        weight -= step
        if t % k == 0:
            slow += alpha * (weight - slow)
            weight = slow
    return weight


@pytest.mark.parametrize("steps", [1, 5, 6, 7, 20])
def test_steps_follow_the_published_rule(steps):
    weight = nn.Parameter(torch.tensor([1.5], dtype=torch.float64))
    optimizer = Ranger([weight], lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        (weight**4).sum().backward()
        optimizer.step()
    assert weight.item() == pytest.approx(reference_ranger(1.5, lambda w: 4 * w**3, steps), rel=1e-12)


@pytest.mark.parametrize("steps", [3, 6, 8])
def test_resumed_training_is_bit_for_bit_the_uninterrupted(steps, tmp_path):
    model, x, y = problem()
    optimizer = Ranger(model.parameters(), lr=0.01)
    train(model, optimizer, x, y, steps)
    torch.save([model.state_dict(), optimizer.state_dict()], tmp_path / "state")

    resumed, _, _ = problem(seed=1)
    other = Ranger(resumed.parameters(), lr=0.5, k=3)
    weights, state = torch.load(tmp_path / "state", weights_only=True)
    resumed.load_state_dict(weights)
    other.load_state_dict(state)
    train(model, optimizer, x, y, 9)
    train(resumed, other, x, y, 9)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), resumed.parameters(), strict=True))


def test_weights_without_gradient_keep_still_and_have_no_state():
    model, x, y = problem()
    model[0].requires_grad_(False)
    before = model[0].weight.clone()
    optimizer = Ranger(model.parameters(), lr=0.01)
    train(model, optimizer, x, y, 7)
    assert torch.equal(model[0].weight, before) and model[0].weight not in optimizer.state_dict()["state"]
    Ranger(model.parameters()).load_state_dict(optimizer.state_dict())


def test_state_of_another_optimizer_or_network_is_refused():
    model, x, y = problem()
    adam = torch.optim.Adam(model.parameters())
    train(model, adam, x, y, 1)
    with pytest.raises(ValueError, match="slow_buffer"):
        Ranger(model.parameters()).load_state_dict(adam.state_dict())

    optimizer = Ranger(model.parameters())
    train(model, optimizer, x, y, 1)
    with pytest.raises(ValueError, match="other parameters"):
        Ranger(nn.Linear(4, 8).parameters()).load_state_dict(optimizer.state_dict())
    wider = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 2))
    with pytest.raises(ValueError, match="shape"):
        Ranger(wider.parameters()).load_state_dict(optimizer.state_dict())


def test_state_in_the_released_format_goes_on_as_ours():
    model, x, y = problem()
    optimizer = Ranger(model.parameters(), lr=0.01)
    train(model, optimizer, x, y, 7)
    state = copy.deepcopy(optimizer.state_dict())
    options = {"alpha": 0.5, "k": 6, "step_counter": 0, "N_sma_threshhold": 5, "amsgrad": True, "initial_lr": 0.02}
    released = {
        "state": {number: {**entry, "step": int(entry["step"])} for number, entry in state["state"].items()},
        "param_groups": [{**{name: group[name] for name in ("lr", "betas", "eps", "weight_decay", "params")}, **options}
                         for group in state["param_groups"]],
    }
    resumed = copy.deepcopy(model)
    other = Ranger(resumed.parameters())
    load_released_state(other, released)
    assert other.param_groups[0]["initial_lr"] == 0.02 and "amsgrad" not in other.param_groups[0]
    train(model, optimizer, x, y, 6)
    train(resumed, other, x, y, 6)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), resumed.parameters(), strict=True))


@pytest.mark.parametrize("state", [{}, {"state": {}, "param_groups": []}, {"state": {0: {}}, "param_groups": []}])
def test_what_is_no_released_state_is_refused(state):
    model, _, _ = problem()
    with pytest.raises(ValueError):
        load_released_state(Ranger(model.parameters()), state)


@pytest.mark.parametrize("options", [{"alpha": 0}, {"alpha": 1.5}, {"k": 0}])
def test_options_without_sense_are_refused(options):
    with pytest.raises(ValueError):
        Ranger([nn.Parameter(torch.ones(1))], **options)
