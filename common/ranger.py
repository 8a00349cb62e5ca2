"""Ranger: rectified Adam inside Lookahead."""
import torch

BUFFERS = ("exp_avg", "exp_avg_sq", "slow_buffer")


class Ranger(torch.optim.RAdam):
    """Rectified Adam; every k steps its weights go part of the way back to a slow copy, which follows them.

    params: parameters or groups; lr, betas, eps, weight_decay (decoupled): as in RAdam; alpha: how far the slow
    weights move towards the fast ones; k: steps between two such moves. The slow weights start as the initial weights.

    Sources: Liu et al., "On the Variance of the Adaptive Learning Rate and Beyond", ICLR 2020; Zhang et al.,
    "Lookahead Optimizer: k steps forward, 1 step back", NeurIPS 2019.
    """

    def __init__(self, params, lr=1e-3, betas=(0.95, 0.999), eps=1e-5, alpha=0.5, k=6, weight_decay=0):
        if not 0 < alpha <= 1:
            raise ValueError(f"alpha lies between 0 and 1: got {alpha}")
        if k < 1:
            raise ValueError(f"k is a number of steps, at least 1: got {k}")
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay,
                         decoupled_weight_decay=True, foreach=True)
        self.defaults.update(alpha=alpha, k=k)
        for group in self.param_groups:
            group.setdefault("alpha", alpha)
            group.setdefault("k", k)

    @torch.no_grad()
    def step(self, closure=None):
        """One update; returns the closure's loss where one is given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._start_slow_weights()
        super().step()
        for group in self.param_groups:
            self._look_ahead(group)
        return loss

    def _start_slow_weights(self):
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None and not self.state[weight]:
                    # RAdam fills an empty state only, so all of it is made here. `step` stays on the CPU, as there.
                    self.state[weight] = {
                        "step": torch.tensor(0.0),
                        "exp_avg": torch.zeros_like(weight, memory_format=torch.preserve_format),
                        "exp_avg_sq": torch.zeros_like(weight, memory_format=torch.preserve_format),
                        "slow_buffer": weight.detach().clone(memory_format=torch.preserve_format),
                    }

    def _look_ahead(self, group):
        due = [weight for weight in group["params"]
               if weight.grad is not None and self.state[weight]["step"].item() % group["k"] == 0]
        if due:
            slow = [self.state[weight]["slow_buffer"] for weight in due]
            torch._foreach_lerp_(slow, due, group["alpha"])
            torch._foreach_copy_(due, slow)

    def load_state_dict(self, state_dict):
        """Resume: every later step is bit for bit that of the optimiser that was saved.

        Raises ValueError where the state is of another optimiser or other weights.
        """
        state_dict = {"state": state_dict["state"], "param_groups": self._checked_groups(state_dict)}
        super().load_state_dict(state_dict)

    def _checked_groups(self, state_dict):
        groups = state_dict["param_groups"]
        if [len(group["params"]) for group in groups] != [len(group["params"]) for group in self.param_groups]:
            raise ValueError("the saved optimiser state belongs to a network with other parameters")
        numbers = [number for group in groups for number in group["params"]]
        weights = [weight for group in self.param_groups for weight in group["params"]]
        for number, weight in zip(numbers, weights, strict=True):
            _check_buffers(number, state_dict["state"].get(number), weight)
        # Options that a saved group lacks keep today's value.
        return [{**{name: value for name, value in today.items() if name != "params"}, **saved}
                for today, saved in zip(self.param_groups, groups, strict=True)]


def load_released_state(optimizer, state):
    """Load the Ranger state of a released GLA-GCN checkpoint (`checkpoint["optimizer"]`) into `optimizer`.

    Its options have other names and its step counts are plain integers; the rest is the same. Parameters go by their
    order, which is that of the released network. Raises ValueError where the state does not fit.
    """
    try:
        groups = [{name: group[name] for name in ("lr", "initial_lr", "betas", "eps", "weight_decay", "alpha", "k",
                                                  "params") if name in group} for group in state["param_groups"]]
        states = {number: {"step": torch.tensor(float(entry["step"])), **{name: entry[name] for name in BUFFERS}}
                  for number, entry in state["state"].items()}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"this is no state of a released Ranger: {error}") from error
    optimizer.load_state_dict({"state": states, "param_groups": groups})


def _check_buffers(number, entry, weight):
    if entry is None:
        return
    missing = [name for name in ("step", *BUFFERS) if name not in entry]
    if missing:
        raise ValueError(f"the saved optimiser state is not Ranger's: parameter {number} lacks {', '.join(missing)}")
    for name in BUFFERS:
        if tuple(entry[name].shape) != tuple(weight.shape):
            raise ValueError(f"the saved optimiser state does not fit: {name} of parameter {number} has shape "
                             f"{tuple(entry[name].shape)}, the parameter {tuple(weight.shape)}")
