"""Rows of Parquet files, as texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from components.datasets.files.text import TAKEN_OUT
from components.datasets.tables.header import MOST_COLUMNS, Columns
from components.errors import UserError

PARQUET = (".parquet", ".pq")
ROWS = 5_000  # in a batch
MOST_ROWS = 100_000_000  # a small file can claim any number
LARGEST_GROUP = 2 << 30  # bytes of a row group, uncompressed


def parquet_count(path: Path) -> int:
    """The number of rows in a Parquet file, from its footer."""
    from pyarrow import parquet

    return parquet.read_metadata(path).num_rows


def parquet_rows(path: Path, dropped: Counter[str]) -> Iterator[tuple[str, Columns, list[str], str]]:
    """As `TableReader._csv`; NUL characters are removed, as in text files, and counted."""
    import pyarrow as pa
    from pandas import isna
    from pandas.api.types import is_scalar
    from pyarrow import parquet

    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            facts = file.metadata
            groups = [facts.row_group(index).total_byte_size for index in range(facts.num_row_groups)]
            if facts.num_rows > MOST_ROWS or facts.num_columns > MOST_COLUMNS or max(groups, default=0) > LARGEST_GROUP:
                raise UserError(
                    f"{facts.num_rows:,} rows × {facts.num_columns:,} columns are too many", where=str(path)
                )
            nested = [
                name
                for name, kind in zip(file.schema_arrow.names, file.schema_arrow.types, strict=True)
                if pa.types.is_nested(kind)
            ]
            index = _index(file.schema_arrow)
            for batch in file.iter_batches(batch_size=ROWS):
                # keep integers next to missing values: labels 1 and 1.0 would be two
                table = batch.to_pandas(integer_object_nulls=True, ignore_metadata=True).drop(columns=index)
                columns = Columns.of([str(column) for column in table.columns], path, nested)
                for row in table.itertuples(index=False, name=None):
                    number += 1
                    missing = (is_scalar(cell) and isna(cell) for cell in row)  # a list in a cell isn't missing
                    cells = ["" if gone else _cell(cell) for gone, cell in zip(missing, row, strict=True)]
                    for sign, name in TAKEN_OUT.items():
                        if count := sum(cell.count(sign) for cell in cells):
                            dropped[name] += count
                            cells = [cell.replace(sign, "") for cell in cells]
                    yield f"{path}: row {number}", columns, cells, ""
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"isn't a Parquet file: {str(error).splitlines()[0]}", where=str(path)) from None


def _index(schema: Any) -> list[str]:
    """The columns that are an index of pandas, as of rows taken from a longer table; none if there are times in it."""
    from pyarrow.types import is_temporal

    try:
        stored = (schema.pandas_metadata or {}).get("index_columns", [])
        index = [name for name in stored if name in schema.names]
    except (AttributeError, TypeError, ValueError):  # metadata of another program
        return []
    return [] if any(is_temporal(schema.field(name).type) for name in index) else index


def _cell(value: Any) -> str:
    # some programs store texts as bytes without marking them as text
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
