"""Commands that use models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from components.paths import output_file, output_folder, user_path
from flows.commands.base import USE, app


@app.command(group=USE)
def generate(
    model: str,
    /,
    *,
    count: Annotated[int | None, Parameter(help="How many sequences.")] = None,
    seed: Annotated[int, Parameter(help="Same seed, same sequences.")] = 0,
    temperature: Annotated[
        float | None, Parameter(help="Below 1 safer, above 1 wilder, 0 always the likeliest.")
    ] = None,
    top_p: Annotated[float | None, Parameter(help="Sample from the fewest tokens that hold this probability.")] = None,
    top_k: Annotated[int | None, Parameter(help="Sample from the k likeliest tokens; 0 = all.")] = None,
    prompt: Annotated[str | None, Parameter(help='What to go on from; a metre such as "3/4" for chorales.')] = None,
    max_length: Annotated[int | None, Parameter(help="At most so many tokens.")] = None,
    chords: Annotated[
        str | None, Parameter(help='Chords to play over: "Dm7 G7 | Cmaj7 | %" or a form, "blues in F".')
    ] = None,
    choruses: Annotated[int | None, Parameter(help="How often the chords are gone through.")] = None,
    bars: Annotated[int | None, Parameter(help="How many bars a tune has whose chords the model makes up.")] = None,
    tempo_bpm: Annotated[float | None, Parameter(help="Quarter notes a minute.")] = None,
    band: Annotated[str | None, Parameter(help="Bass and piano by rule: swing, straight, folk or none.")] = None,
    constraint: Annotated[
        list[str] | None, Parameter(negative="", help='A rule to keep: "key F major", "range 55-84". Repeatable.')
    ] = None,
    melody: Annotated[Path | None, Parameter(help="A music file: a chorale model writes the lower voices.")] = None,
    start: Annotated[Path | None, Parameter(help="A music file to go on from.")] = None,
    soundfont: Annotated[
        Path | None, Parameter(help="A SoundFont (.sf2) that plays the music, in the place of the built-in sound.")
    ] = None,
    out: Annotated[Path | None, Parameter(help="Folder for the files; else one under generated/.")] = None,
) -> None:
    """Generate with a registered model: NAME (its champion), NAME@champion, NAME@3 or NAME@latest.

    The same seed gives the same output; every file says how it was made (`reprise replay FILE`).

    Example: `reprise generate chorales@champion --count 4 --seed 7 --temperature 0.9 --top-p 0.95`
    """
    given = {
        "count": count,
        "temperature": temperature,
        "top_p": top_p,
        "top_k": top_k,
        "prompt": prompt,
        "max_length": max_length,
        "chords": chords,
        "choruses": choruses,
        "bars": bars,
        "tempo_bpm": tempo_bpm,
        "band": band,
        "constraints": tuple(constraint) if constraint else None,
    }
    options = {"--melody": melody, "--start": start, "--soundfont": soundfont}
    files = [path and str(user_path(path, where=option)) for option, path in options.items()]
    folder = str(output_folder(out, where="--out")) if out else None
    from components.runs.generate import generate_files

    overrides = {name: value for name, value in given.items() if value is not None}
    paths = generate_files(model, overrides, seed, folder, *files)
    for path in paths:
        print(path)
    for path in paths:
        if path.endswith(".txt"):
            from components.render.record import without_record

            print(without_record(Path(path).read_text(encoding="utf-8")), end="")


@app.command(group=USE)
def predict(
    model: str,
    /,
    *,
    text: Annotated[list[str] | None, Parameter(negative="", help="A text to be answered. Repeatable.")] = None,
    file: Annotated[
        Path | None,
        Parameter(
            help="A file to be answered row by row: a table, lines, FASTA, .ts, .npy (frames or pictures), videos, WAV."
        ),
    ] = None,
    column: Annotated[str | None, Parameter(help="The column that holds the texts, by its name in the header.")] = None,
    out: Annotated[Path | None, Parameter(help="The CSV file to write; else one under generated/.")] = None,
    language_model: Annotated[
        str | None, Parameter(help="A registered model of characters that helps a model of speech to spell.")
    ] = None,
    set: Annotated[
        list[str] | None,
        Parameter(
            negative="",
            help="How the file is read, where not as the model's own data: data.KEY=VALUE, e.g. data.coding=latin-1.",
        ),
    ] = None,
) -> None:
    """Answer with a registered model: a label and its probability, numbers, or tags.

    A file is read as the model's own data were; its rows come back as CSV with what is predicted beside them.

    Example: `reprise predict sentiment --text "a gripping , moving film"` · `reprise predict dna --file new.fasta`
    """
    source = str(user_path(file, where="--file")) if file else None
    target = str(output_file(out, where="--out")) if out else None
    from components.runs.predict import predict as answers

    for line in answers(model, text or [], source, column, target, language_model, set or []):
        print(line)


@app.command(group=USE)
def replay(
    file: Path,
    /,
    *,
    out: Annotated[
        Path | None, Parameter(help="Folder for what is made again; else replayed/ beside the file.")
    ] = None,
    soundfont: Annotated[Path | None, Parameter(help="The SoundFont that the record names, if it names one.")] = None,
) -> None:
    """Make a generated file again from the record inside it, and say whether it is the same, byte for byte.

    Example: `reprise replay generated/chorales-v1-seed0-3fa4c1/chorales-1.mid`
    """
    from components.runs.generate import replay as again

    source = user_path(file, where="replay")
    folder = output_folder(out, where="--out") if out else None
    paths, same = again(source, folder, soundfont and user_path(soundfont, where="--soundfont"))
    for path in paths:
        print(path)
    print(f"{file.name} is {'identical, byte for byte' if same else 'DIFFERENT from what was made now'}")
    if not same:
        raise SystemExit(1)


@app.command(group=USE)
def down() -> None:
    """Stop the Prefect server that Reprise keeps running between commands.

    Example: `reprise down`
    """
    from components.runs.places import places
    from flows.server import Server

    print("stopped the Prefect server" if Server(places().prefect).stop() else "no Prefect server of ours is running")
