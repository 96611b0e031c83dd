"""Readings of the gradient probe: kept in a file through interruptions, and drawn."""

from __future__ import annotations

import pytest

from components.evaluation.gradients import append_reading, read_readings, write_gradient_picture
from components.training.gradients import LayerGradients, Reading


def readings(count: int, layers: int = 1) -> list[dict]:
    return [
        Reading(
            100 * n,
            {
                str(i): LayerGradients([0.99 ** (k * (1 + n + i)) for k in range(60)], 0.1, "steps")
                for i in range(layers)
            },
        ).curves()
        for n in range(count)
    ]


def test_a_resumed_run_has_each_reading_once_and_a_cut_off_line_does_no_harm(tmp_path) -> None:
    path = tmp_path / "gradients.jsonl"
    assert read_readings(path) == []
    first, second, third = readings(3)
    append_reading(path, first)
    append_reading(path, {**second, "layers": first["layers"]})
    append_reading(path, second)  # the same update again, after resuming
    with path.open("a") as file:
        file.write('{"global_step": 300, "lay')
    append_reading(path, third)  # grows together with what was cut off: lost, alone
    append_reading(path, third)
    for nonsense in ("[]", "3", '{"layers": {"0": {"lags": [1], "norms": []}}, "global_step": 1}', '{"layers": 3}'):
        with path.open("a") as file:
            file.write(nonsense + "\n")
    assert read_readings(path) == [first, second, third]


@pytest.mark.slow
@pytest.mark.parametrize(("count", "layers"), [(1, 1), (3, 2), (40, 7)])
def test_the_picture_has_a_line_for_each_evaluation_and_a_panel_for_each_layer(
    tmp_path, monkeypatch, count, layers
) -> None:
    drawn = []
    from components.evaluation import gradients

    class Canvas(gradients.FigureCanvasAgg):
        def print_png(self, *args) -> None:
            drawn.append(self.figure)
            super().print_png(*args)

    monkeypatch.setattr(gradients, "FigureCanvasAgg", Canvas)
    path = tmp_path / "gradients.png"
    write_gradient_picture(path, readings(count, layers), title="small")
    panels = [axes for axes in drawn[0].axes if axes.lines]
    assert len(panels) == min(layers, 3)
    assert all(len(axes.lines) == min(count, 12) for axes in panels)
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_norms_of_zero_and_no_readings_are_survived(tmp_path) -> None:
    dead = Reading(0, {"": LayerGradients([1.0, 0.0, 0.0], 0.0, "steps")}).curves()
    write_gradient_picture(tmp_path / "dead.png", [dead], title="dead")
    with pytest.raises(ValueError, match="no readings"):
        write_gradient_picture(tmp_path / "none.png", [], title="none")
