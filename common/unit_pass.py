"""A unit of GLA-GCN in one training step, forward and backward, block by block.

x -> y -> h -> u -> out, where
    y = conv_d of x exchanged along the graphs       h = ReLU(Dropout(BN(y)) + skip(x))
    u = temporal convolution of h                    out = Dropout(ReLU(BN(u) + residual(x)))
y, u, out and the dropout mask of h are kept for the backward pass; the graph products and h are computed again.
"""
import torch
import torch.nn.functional as F

from common.agcn import SUBSETS, embeddings, exchange, rows, similarity
from common.blockwise_bn import Sums, normalise, pivot
from common.cpu import blocks


class UnitPass:
    """One unit of a `Run`. `block` is a slice of windows throughout."""

    def __init__(self, run, unit, weights, windows, frames, dropout):
        self.run, self.unit, self.weights, self.index = run, unit, weights, len(run.units)
        self.cast = type(weights)(*(None if tensor is None else _laid_out(tensor, run.dtype) for tensor in weights))
        self.previous = run.units[-1] if run.units else None
        self.level_end, self.level_frames = None, None
        self.h_dropout, self.out_dropout = unit.gcn1.drop.p, dropout
        channels, joints, stride = weights.temporal.shape[0], weights.graph.shape[1], unit.tcn1.stride
        self.blocks = blocks(windows, channels * joints * frames)
        shape, strided = (windows, channels, joints, frames), (windows, channels, joints, frames // stride)
        self.y, self.u = self._buffer("y", shape), self._buffer("u", strided)
        self.out = self.result = self._buffer("out", strided)
        self.h_mask = self._buffer("h_mask", shape, torch.uint8) if self.h_dropout else None
        # u is done with when the gradient of h is made: it takes its place where it fits.
        self.h_grad = self.u if stride == 1 else self._buffer("h_grad", shape)
        self.similarities = weights.graph.new_empty((windows, *weights.graph.shape))

    def _buffer(self, name, shape, dtype=None):
        return self.run.buffer(f"{name}{self.index}", shape, dtype)

    def end_level(self, frame):
        """This unit ends a level: of each group of frames in the level's input, number `frame` is added to `out`."""
        self.level_frames = slice(frame, None, self.unit.tcn1.stride)
        self.previous.level_end = self
        self.result = self._buffer("result", self.out.shape)
        self.result_grad = self._buffer("result_grad", self.out.shape)

    def forward(self, network_input):
        """x, which the unit before finishes on the way, -> u and the statistics of both batch norms."""
        self.x = network_input if self.previous is None else self.previous.result
        gcn, tcn, w = self.unit.gcn1, self.unit.tcn1, self.cast
        bias = pivot(gcn.bn, self.weights.features_bias).to(self.run.dtype)
        sums = Sums(len(bias))
        for block in self.blocks:
            if self.previous is not None:
                self.previous.finish(block)
            self.similarities[block] = similarity(F.conv2d(self.x[block], w.attention, w.attention_bias))
            y = F.conv2d(self._exchanged(block), w.features, bias, dilation=self._dilation())
            sums.add(y, y)
            self.y[block] = y
        self.y_norm = normalise(gcn.bn, sums)

        bias = pivot(tcn.bn, self.weights.temporal_bias).to(self.run.dtype)
        sums = Sums(len(bias))
        for block in self.blocks:
            if self.h_mask is not None:
                self.h_mask[block] = self.run.draw_mask(self.y[block], self.h_dropout)
            u = F.conv2d(self._padded(self._h(block)), w.temporal, bias, *self._steps())
            sums.add(u, u)
            self.u[block] = u
        self.u_norm = normalise(tcn.bn, sums)

    def finish(self, block):
        """From u to what the next unit takes."""
        out = self.u_norm.apply(self.u[block])
        if self.unit.adds_input:
            out += self.x[block]
        elif self.weights.residual is not None:
            out += F.conv2d(self.x[block], self.cast.residual, self.cast.residual_bias)
        out.relu_()
        if self.out_dropout:
            out *= self.run.draw_mask(out, self.out_dropout)
            out *= _scale(self.out_dropout)
        self.out[block] = out
        if self.level_frames is not None:
            self.result[block] = out.add_(self.previous.x[block][..., self.level_frames])

    def receive(self, block, grad):
        """The gradient of what the next unit takes; through dropout and ReLU it takes the place of `out`."""
        if self.level_frames is not None:
            self.result_grad[block] = grad
        gated = torch.ops.aten.threshold_backward(grad, self.out[block], 0)
        if block.start == 0:
            self.u_sums = Sums(gated.shape[1])
        self.u_sums.add(gated, self.u[block])
        self.out[block] = gated

    def backward(self, features_grad):
        """Gradients of the weights, in their order; that of x goes to the unit before. features_grad: added to it."""
        self.total = {}
        u_grad_of, *norm_grads = self.u_norm.backward(self.u_sums, _scale(self.out_dropout))
        self.total["temporal_gain"], self.total["temporal_offset"] = norm_grads
        y_sums = Sums(self.y.shape[1])
        for block in self.blocks:
            h = self._h(block)
            u_grad = u_grad_of(self.out[block], self.u[block]).to(self.run.dtype)
            h_grad = torch.ops.aten.threshold_backward(self._temporal_backward(u_grad, h), h, 0)
            y_sums.add(self._dropped(block, h_grad), self.y[block])
            self.h_grad[block] = h_grad

        y_grad_of, *norm_grads = self.y_norm.backward(y_sums, _scale(self.h_dropout))
        self.total["features_gain"], self.total["features_offset"] = norm_grads
        if self.previous is None:
            self.input_grad = torch.empty_like(self.x)
        for block in self.blocks:
            y_grad = y_grad_of(self._dropped(block, self.h_grad[block]), self.y[block]).to(self.run.dtype)
            x_grad = self._graph_backward(block, y_grad) + self._skips_backward(block)
            if features_grad is not None:
                x_grad += features_grad[block]
            if self.previous is None:
                self.input_grad[block] = x_grad
            else:
                self.previous.receive(block, x_grad)
        return [self._weight_grad(name, tensor) for name, tensor in self.weights._asdict().items()]

    def _h(self, block):
        h = self.y_norm.apply(self.y[block], _scale(self.h_dropout))
        if self.h_mask is not None:
            h *= self.h_mask[block]
        w = self.cast
        h += self.x[block] if w.down is None else F.conv2d(self.x[block], w.down, w.down_bias)
        return h.relu_().to(self.run.dtype)

    def _dropped(self, block, grad):
        return grad if self.h_mask is None else grad * self.h_mask[block]

    def _exchanged(self, block):
        return exchange(self.x[block], self.similarities[block] + self.weights.graph)

    def _dilation(self):
        return self.weights.graph.shape[1], 1

    def _steps(self):
        """Stride and padding of the temporal convolution over (joints, frames)."""
        tcn = self.unit.tcn1
        return (1, tcn.stride), (0, tcn.frames_before if self._pads_evenly() else 0)

    def _pads_evenly(self):
        return self.unit.tcn1.frames_before == self.unit.tcn1.frames_after

    def _padded(self, h):
        tcn = self.unit.tcn1
        return h if self._pads_evenly() else F.pad(h, (tcn.frames_before, tcn.frames_after))

    def _temporal_backward(self, u_grad, h):
        tcn = self.unit.tcn1
        grad = self._convolution_backward("temporal", u_grad, self._padded(h), *self._steps())
        return grad if self._pads_evenly() else F.pad(grad, (-tcn.frames_before, -tcn.frames_after))

    def _skips_backward(self, block):
        """The gradient of x past the convolutions: to h, to out and to the end of the level."""
        h_grad, out_grad = self.h_grad[block], self.out[block]
        if self.weights.down is not None:
            grad = self._convolution_backward("down", h_grad, self.x[block])
        else:
            grad = h_grad.clone()
        if self.unit.adds_input:
            grad.add_(out_grad, alpha=_scale(self.out_dropout))
        elif self.weights.residual is not None:
            grad += self._convolution_backward("residual", out_grad, self.x[block])
        if self.level_end is not None:
            grad[..., self.level_end.level_frames] += self.level_end.result_grad[block]
        return grad

    def _graph_backward(self, block, y_grad):
        """The gradient of x through the graph convolution and the similarity that makes its graphs."""
        x, graphs = self.x[block], self.similarities[block] + self.weights.graph
        n, c, v, t = x.shape
        grad = self._convolution_backward("features", y_grad, exchange(x, graphs), dilation=self._dilation())
        grad = rows(grad).view(n, SUBSETS * v, t * c)
        x_grad = graphs.transpose(1, 2).reshape(n, v, -1).to(x.dtype) @ grad
        # Long rows times long rows is slow: x is turned over first.
        turned = rows(x).view(n, v, t * c).transpose(1, 2).contiguous()
        graph_grad = (grad @ turned).view(n, SUBSETS, v, v).transpose(2, 3).to(graphs.dtype)
        self._add("graph", graph_grad.sum(0))
        return self._attention_backward(block, graph_grad).add_(x_grad.view(n, v, t, c).permute(0, 3, 1, 2))

    def _attention_backward(self, block, graph_grad):
        x, s = self.x[block], self.similarities[block]
        n, _, v, t = x.shape
        a, b = embeddings(F.conv2d(x, self.cast.attention, self.cast.attention_bias), turned=False)
        product_grad = s * (graph_grad - (s * graph_grad).sum(2, keepdim=True)) / a.shape[-1]
        product_grad = product_grad.to(x.dtype)
        grad = x.new_empty((n, v, t, 2, SUBSETS, a.shape[-1] // t))
        grad[:, :, :, 0] = (product_grad @ b).view(n, SUBSETS, v, t, -1).permute(0, 2, 3, 1, 4)
        grad[:, :, :, 1] = (product_grad.transpose(2, 3) @ a).view(n, SUBSETS, v, t, -1).permute(0, 2, 3, 1, 4)
        return self._convolution_backward("attention", grad.flatten(3).permute(0, 3, 1, 2), x)

    def _convolution_backward(self, name, grad, x, stride=(1, 1), padding=(0, 0), dilation=(1, 1)):
        """Adds up the gradients of a convolution's weight and bias; returns that of its input."""
        weight, bias = getattr(self.cast, name), name in ("attention", "down", "residual")
        x_grad, weight_grad, bias_grad = torch.ops.aten.convolution_backward(
            grad, x, weight, [len(weight)], stride, padding, dilation, False, (0, 0), 1, (True, True, bias))
        self._add(name, weight_grad)
        if bias:
            self._add(name + "_bias", bias_grad)
        return x_grad

    def _add(self, name, grad):
        grad = grad.to(getattr(self.weights, name).dtype)
        self.total[name] = self.total[name] + grad if name in self.total else grad

    def _weight_grad(self, name, weight):
        """The gradient of a weight; a bias before a batch norm has none."""
        if weight is None:
            return None
        grad = self.total.get(name)
        if name in ("residual", "residual_bias"):
            grad = grad * _scale(self.out_dropout)
        return torch.zeros_like(weight) if grad is None else grad.to(weight.dtype)


def _scale(dropout):
    """What dropout multiplies the survivors by."""
    dropped = round(dropout * 65536) / 65536
    return 1 / (1 - dropped) if dropped < 1 else 0.0


def _laid_out(tensor, dtype):
    tensor = tensor.to(dtype)
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
