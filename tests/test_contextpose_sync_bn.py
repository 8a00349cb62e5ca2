"""Batch norm over the batches of several processes: what one process computes of the whole batch."""
import os
import socket

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch import nn

from common.contextpose.sync_bn import SyncBatchNorm, synchronised

SHARES = (3, 2)  # samples of the processes: unlike, so that the means of means would be wrong


def network(dims):
    torch.manual_seed(0)
    conv, norm = ((nn.Conv2d, nn.BatchNorm2d), (nn.Conv3d, nn.BatchNorm3d))[dims - 2]
    return nn.Sequential(conv(3, 4, 3), norm(4), nn.ReLU(), conv(4, 2, 3), norm(2)).double()


def inputs(dims):
    return torch.rand(sum(SHARES), 3, *[6] * dims, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def trained(model, x):
    """Output, gradients and running statistics of a step with a loss that is a sum over samples."""
    output = model(x)
    (output.sin() * torch.arange(1, output.shape[1] + 1).view(1, -1, *[1] * (x.dim() - 2))).sum().backward()
    return output.detach(), [weight.grad for weight in model.parameters()], [*model.buffers()]


def share_of_the_work(rank, port, results):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dist.init_process_group("gloo", rank=rank, world_size=len(SHARES))
    for dims in (2, 3):
        x = inputs(dims).split(SHARES)[rank]
        output, gradients, buffers = trained(synchronised(network(dims), torch.device("cpu")), x)
        for gradient in gradients:
            dist.all_reduce(gradient)
        torch.save((output, gradients, buffers), f"{results}/{dims}.{rank}")
    dist.destroy_process_group()


def test_two_processes_normalise_as_one_does_with_the_whole_batch(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(share_of_the_work, (port, tmp_path), nprocs=len(SHARES))
    for dims in (2, 3):
        output, gradients, buffers = trained(network(dims), inputs(dims))
        parts = [torch.load(f"{tmp_path}/{dims}.{rank}") for rank in range(len(SHARES))]
        torch.testing.assert_close(torch.cat([part[0] for part in parts]), output)
        for _, part_gradients, part_buffers in parts:
            torch.testing.assert_close(part_gradients, gradients)
            torch.testing.assert_close(part_buffers, buffers)


def test_a_synchronised_network_keeps_its_weights_and_its_names():
    plain = network(2)
    with torch.no_grad():
        plain[1].running_mean += 1
    made = synchronised(network(2), torch.device("cpu"))
    made.load_state_dict(plain.state_dict())
    assert [type(module) for module in made.modules()].count(SyncBatchNorm) == 2
    torch.testing.assert_close(made.eval()(inputs(2)), plain.eval()(inputs(2)))
