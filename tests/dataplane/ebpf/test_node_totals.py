"""The totals of a real LNS's sessions: they go on through every change of what forwards, and never go backwards."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from dataplane.ebpf.rig import reason
from dataplane.ebpf.test_node_kill import INNER, Scene, totals
from holdfast.dataplane.ebpf.pins import pinned, remove
from holdfast.lab.netns import claim
from holdfast.records import Counters

REASON = reason()
pytestmark = [pytest.mark.netns, pytest.mark.skipif(REASON is not None, reason=str(REASON))]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with claim() as lab, ExitStack() as at_end:
        yield Scene(lab, tmp_path, at_end)


class Life:
    """An LNS that ends and starts again; nothing is sent meanwhile."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.config = scene.directory / "lns" / "holdfast.toml"

    def send(self, turns: int) -> dict[int, Counters]:
        """Packets both ways for everybody; returns the totals after them."""
        sessions, before = self.scene.keys, totals(self.scene.lns)
        self.scene.send(turns)
        assert self.scene.traffic.lost() == (0, 0)
        octets = turns * INNER
        now = totals(self.scene.lns)
        assert now == {
            key: Counters(
                b.up_packets + turns, b.up_bytes + octets, b.down_packets + turns, b.down_bytes + octets
            )
            for key, b in before.items()
        }
        assert now.keys() == sessions.keys()
        return now

    def stop(self) -> None:
        """The planned way."""
        self.scene.lns.terminate()
        assert self.scene.lns.reap() == 0

    def kill(self) -> None:
        """The other way."""
        self.scene.lns.kill()
        self.scene.lns.reap()

    def start(self, change: tuple[str, str] = ("", "")) -> dict[int, Counters]:
        """With something in its configuration replaced; returns the totals."""
        text = self.config.read_text()
        assert change[0] in text
        self.config.write_text(text.replace(*change) if change[0] else text)
        scene = self.scene
        scene.lns.start()
        scene._wait(lambda: scene.lns.reached_ns("node.synchronised"))
        scene._wait(lambda: scene.lns.reached_ns("node.api"))
        return totals(scene.lns)


TO_TUN, TO_EBPF = ('kind = "ebpf"', 'kind = "tun"'), ('kind = "tun"', 'kind = "ebpf"')


def test_totals_go_on_from_one_kind_of_plane_to_the_other_and_back(scene: Scene) -> None:
    life = Life(scene)
    seen = life.send(30)
    life.stop()
    assert life.start(TO_TUN) == seen, "a planned stop"
    assert not pinned(scene.pins)
    seen = life.send(10)
    life.stop()
    assert life.start() == seen
    written, seen = seen, life.send(10)
    life.kill()
    after = life.start()
    assert after.keys() == seen.keys()
    for key, total in after.items():
        assert total.at_least(written[key]) == total, (
            "at most what was counted since it was last written is lost"
        )
        assert seen[key].at_least(total) == seen[key]
    life.stop()
    assert life.start(TO_EBPF) == after
    seen = life.send(10)
    life.kill()
    assert life.start(TO_TUN) == seen, "the maps were read before they went"
    life.send(1)


def test_totals_go_on_through_other_maps_and_a_reboot(scene: Scene) -> None:
    life = Life(scene)
    seen = life.send(30)
    life.kill()
    assert life.start(("max_sessions = 64", "max_sessions = 128")) == seen
    seen = life.send(10)
    life.stop()
    remove(scene.pins)
    assert life.start() == seen, "all that was pinned is gone, as after a reboot"
    written, seen = seen, life.send(10)
    life.kill()
    remove(scene.pins)
    after = life.start()
    assert after.keys() == written.keys()
    assert all(total.at_least(written[key]) == total for key, total in after.items())
