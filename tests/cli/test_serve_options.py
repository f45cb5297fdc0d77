"""The options of `ferryman serve` become its settings."""

import argparse
from dataclasses import fields

from ferryman.cli.serve_options import add_serve_options, settings_of
from ferryman.server.settings import ServerSettings


def settings(*words: str) -> ServerSettings:
    parser = argparse.ArgumentParser()
    add_serve_options(parser)
    return settings_of(parser.parse_args(["bundle", *words]))


def test_what_a_body_may_cost_is_chosen_in_seconds_and_megabytes() -> None:
    chosen = settings("--receive-s", "2.5", "--max-in-flight-mb", "1.5", "--max-body-mb", "0.5")
    assert (chosen.receive_s, chosen.max_in_flight_bytes, chosen.max_body_bytes) == (2.5, 1_500_000, 500_000)


def test_every_setting_has_an_option() -> None:
    parser = argparse.ArgumentParser()
    add_serve_options(parser)
    options = {action.dest for action in parser._actions}
    renamed = {"max_body_bytes": "max_body_mb", "max_in_flight_bytes": "max_in_flight_mb"}
    assert {renamed.get(field.name, field.name) for field in fields(ServerSettings)} <= options


def test_without_options_the_settings_are_those_of_the_api() -> None:
    sizes = {"admin_port", "max_body_bytes", "max_in_flight_bytes"}  # the next port; MB are powers of ten here
    chosen, usual = settings(), ServerSettings()
    for field in fields(ServerSettings):
        if field.name not in sizes:
            assert getattr(chosen, field.name) == getattr(usual, field.name), field.name
