"""What audiences.yaml may say, and what is answered to what it may not."""

from datetime import timedelta
from pathlib import Path

import pytest

from worker.audiences.registry import Registry, WrongRegistry, load_registry, read_registry

GOOD = """
policy: engage
lanes:
  realtime: {linger: 300ms, max_wait: 3s}
  batched: {every: 15m}
audiences:
  - key: vip
  - key: lapsed
    cadence: batched
    batched: {every: 8h}
    attribute: seg_lapsed
    on_exit: null
  - key: quiet
    enabled: false
    on_exit: false
traits:
  - key: spend
    cadence: batched
"""


def wrongs(text: str) -> list[str]:
    """What is answered to a registry that cannot be used, line by line."""
    with pytest.raises(WrongRegistry) as caught:
        read_registry(text)
    return str(caught.value).splitlines()


class TestMeaning:
    def test_every_key_has_its_rule(self) -> None:
        """Lane, interval, exit and whether it is enabled, as the scripts are given them."""
        assert read_registry(GOOD).rules() == [
            ("vip", ("r", 0, "f", 1)),
            ("lapsed", ("b", 28_800_000, "n", 1)),
            ("quiet", ("r", 0, "f", 0)),
            ("spend", ("b", 0, "f", 1)),
        ]

    def test_the_attribute_is_the_key_unless_it_is_named(self) -> None:
        """A key may be sent under another name."""
        names = {"vip": "vip", "lapsed": "seg_lapsed", "quiet": "quiet", "spend": "spend"}
        assert read_registry(GOOD).attributes() == names

    def test_lanes_are_in_milliseconds(self) -> None:
        """Linger, longest wait, interval and offset, as the scripts are given them."""
        assert read_registry(GOOD).lane_terms() == (300, 3_000, 900_000, 0)

    @pytest.mark.parametrize("text", ["audiences: []", "policy: personas", "{}"])
    def test_a_file_can_declare_nothing(self, text: str) -> None:
        """Realtime after 200 ms, at most 2 s; batched hourly."""
        registry = read_registry(text)
        assert registry.rules() == []
        assert registry.lane_terms() == (200, 2_000, 3_600_000, 0)

    def test_a_missing_file_declares_nothing(self, tmp_path: Path) -> None:
        """The file is optional."""
        assert load_registry(tmp_path / "audiences.yaml") == Registry()

    def test_a_file_is_read(self, tmp_path: Path) -> None:
        """What stands in the file is what counts."""
        path = tmp_path / "audiences.yaml"
        path.write_text(GOOD)
        assert load_registry(path) == read_registry(GOOD)

    def test_the_version_is_that_of_the_meaning(self) -> None:
        """Comments and order of fields do not change it; a rule does."""
        same = "audiences: [{cadence: realtime, key: vip}]  # all of them"
        again = "audiences:\n- key: vip\n  cadence: realtime\n"
        assert read_registry(same).version == read_registry(again).version
        other = "audiences: [{key: vip, cadence: batched}]"
        assert read_registry(other).version != read_registry(same).version

    @pytest.mark.parametrize("every", ["1s", "10s", "15m", "8h", "1d", "1.5s", "90m"])
    def test_intervals_divide_a_day(self, every: str) -> None:
        """So that boundaries are the same each day."""
        registry = read_registry(f"lanes: {{batched: {{every: {every}}}}}")
        assert timedelta(days=1) % registry.lanes.batched.every == timedelta(0)


class TestRefusals:
    def test_everything_wrong_is_told_at_once(self) -> None:
        """Each mistake is told, with its place in the file."""
        lines = wrongs(
            """
            policy: none
            colour: red
            lanes: {batched: {every: 7h}, realtime: {linger: soon}}
            audiences:
              - {key: vip, cadence: hourly}
              - {key: "", on_exit: true}
              - {}
            """
        )
        for place in ("policy", "linger", "every", "cadence", "key", "on_exit", "colour"):
            assert any(place in line for line in lines), place
        assert all(line.startswith("audiences.yaml:") for line in lines if line[:1].strip())

    def test_all_duplicates_are_told_at_once(self) -> None:
        """Two keys never name the same thing: not by key, not by attribute, not across kinds."""
        said = "\n".join(
            wrongs(
                """
                audiences: [{key: a}, {key: a}, {key: b, attribute: x}, {key: y, attribute: d}]
                traits: [{key: x}, {key: d}]
                """
            )
        )
        assert [line.split(": ")[1] for line in said.splitlines()] == ["a", "x", "d"]

    @pytest.mark.parametrize("every", ["7h", "25h", "2d", "500ms", "0s", "1.7s"])
    def test_an_interval_that_does_not_divide_a_day(self, every: str) -> None:
        """It is refused, with its place."""
        said = wrongs(f"audiences: [{{key: a, cadence: batched, batched: {{every: {every}}}}}]")
        assert "every" in said[0]
        assert "a day" in said[0]

    @pytest.mark.parametrize("span", ["200", "3600", "1.5", "true", "1:30"])
    def test_a_span_needs_its_unit(self, span: str) -> None:
        """A bare number could mean seconds or milliseconds, so it means nothing."""
        said = wrongs(f"lanes: {{realtime: {{linger: {span}}}}}")
        assert "linger" in said[0]
        assert "unit" in said[0]

    @pytest.mark.parametrize("name", ["email", "external_id", "push_tokens"])
    def test_a_reserved_attribute(self, name: str) -> None:
        """Neither a key nor a named attribute may overwrite the profile itself."""
        assert "Braze profile field" in wrongs(f"audiences: [{{key: {name}}}]")[0]
        assert "Braze profile field" in wrongs(f"traits: [{{key: a, attribute: {name}}}]")[0]

    @pytest.mark.parametrize("name", ["$a", " a", "a ", "a\\tb", "x" * 256, "ü" * 128])
    def test_no_attribute_of_braze(self, name: str) -> None:
        """Names that Braze does not take are refused here."""
        assert "attribute" in wrongs(f'audiences: [{{key: a, attribute: "{name}"}}]')[0]

    def test_a_trait_has_no_exit(self) -> None:
        """Leaving is for audiences."""
        assert "on_exit" in wrongs("traits: [{key: a, on_exit: null}]")[0]

    @pytest.mark.parametrize("text", ["[a, b]", "just words", "audiences: 3", "audiences: {a: 1}"])
    def test_another_shape(self, text: str) -> None:
        """What is no registry is refused by the name of the file, whatever it is."""
        assert wrongs(text)[0].startswith("audiences.yaml:")

    def test_what_is_not_yaml(self) -> None:
        """The file is named, and what is wrong with it."""
        assert wrongs("audiences:\n  - [")[0].startswith("audiences.yaml")

    def test_a_file_that_cannot_be_read(self, tmp_path: Path) -> None:
        """The path is told."""
        path = tmp_path / "audiences.yaml"
        path.write_bytes(b"\xff\xfe\x00")
        with pytest.raises(WrongRegistry, match=r"audiences\.yaml"):
            load_registry(path)
        with pytest.raises(WrongRegistry, match="cannot be read"):
            load_registry(tmp_path)
