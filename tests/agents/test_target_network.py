"""The target network: what it has of its own, what it shares, how it follows."""

import copy

import torch
from torch import nn

from agents.learning.target_network import TargetNetwork


def network() -> tuple[nn.Sequential, nn.BatchNorm1d]:
    torch.manual_seed(0)
    inputs = nn.BatchNorm1d(3)
    return nn.Sequential(inputs, nn.Conv1d(1, 2, 1), nn.BatchNorm1d(2), nn.Linear(3, 2)), inputs


def disturb(module: nn.Module) -> None:
    with torch.no_grad():
        for tensor in module.state_dict().values():
            tensor.add_(1)


def test_nothing_is_shared_but_what_is_said_to_be() -> None:
    module, inputs = network()
    target = TargetNetwork([module], shared=[inputs])
    own = {t.data_ptr() for t in target.state_dict().values()}
    common = own & {t.data_ptr() for t in module.state_dict().values()}
    assert common == {t.data_ptr() for t in inputs.state_dict().values()}
    kept = {id(parameter) for parameter in inputs.parameters()}
    assert not any(p.requires_grad for p in target.parameters() if id(p) not in kept)
    assert all(p.requires_grad for p in module.parameters())


def test_a_hard_update_makes_every_tensor_equal() -> None:
    module, inputs = network()
    target = TargetNetwork([module], shared=[inputs])
    disturb(module)
    target.update(1.0)
    for name, tensor in module.state_dict().items():
        assert torch.equal(target.copies[0].state_dict()[name], tensor), name


def test_a_soft_update_goes_part_of_the_way_and_copies_statistics() -> None:
    module, inputs = network()
    target = TargetNetwork([module], shared=[inputs])
    before = module[1].weight.detach().clone()
    disturb(module)
    target.update(0.25)
    (own,) = target.copies
    torch.testing.assert_close(own[1].weight, before + 0.25)
    assert torch.equal(own[2].running_mean, module[2].running_mean)


def test_a_copied_pair_follows_itself_alone() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, inputs = network()
            self.target = TargetNetwork([self.net], shared=[inputs])

    first = Pair()
    second = copy.deepcopy(first)
    disturb(second.net)
    second.target.update(1.0)
    assert torch.equal(second.target.copies[0][1].weight, second.net[1].weight)
    assert not torch.equal(first.target.copies[0][1].weight, second.net[1].weight)


def test_it_never_trains() -> None:
    module, inputs = network()
    target = TargetNetwork([module], shared=[inputs]).train()
    assert not target.copies[0][2].training


def test_statistics_are_followed_after_the_modules_have_moved() -> None:
    module, inputs = network()
    both = nn.ModuleList([module, target := TargetNetwork([module], shared=[inputs])])
    both.to(torch.float64).to(torch.float32)
    target.renew()
    disturb(module)
    target.update(0.5)
    assert torch.equal(target.copies[0][2].running_mean, module[2].running_mean)
