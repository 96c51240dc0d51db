# SPDX-License-Identifier: Apache-2.0
"""The options of `verify` for signatures."""

from datetime import UTC, datetime
from typing import Final

import click

from .console import file_name, options_of


class _Time(click.ParamType[datetime]):
    """A day or a time; UTC unless it says otherwise."""

    name = "time"

    def convert(
        self, value: object, param: click.Parameter | None, context: click.Context | None
    ) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            found = datetime.fromisoformat(str(value))
            if found.tzinfo is not None:
                return found.astimezone(UTC)
        except (ValueError, OverflowError):  # the latter: out of the years that Python knows
            self.fail(f"{value} is not a time such as 2026-01-31 or 2026-01-31T12:00Z", param)
        return found.replace(tzinfo=UTC)


_OPTIONS: Final = (
    click.option(
        "--public-key",
        metavar="KEY",
        type=file_name,
        help="For a signature: the public key of the signer, in PEM.",
    ),
    click.option(
        "--certificate-root",
        "certificate_roots",
        metavar="CERT",
        multiple=True,
        type=file_name,
        help="For a signature: trust signers whose certificate leads to one of these, in PEM; "
        "repeatable.",
    ),
    click.option(
        "--at",
        metavar="TIME",
        type=_Time(),
        help="For a signature: when the certificates must be valid.  [default: now]",
    ),
    click.option(
        "--identity",
        metavar="NAME",
        help="For a signature without a key: who signed, as Sigstore's services knew it.",
    ),
    click.option(
        "--issuer",
        metavar="URL",
        help="With --identity: the OpenID Connect provider that knew the signer.",
    ),
    click.option(
        "--links-below",
        metavar="DIR",
        multiple=True,
        type=file_name,
        help="For a signature: let followed links lead below this folder too; repeatable.",
    ),
    click.option(
        "--ignore",
        "ignored",
        metavar="PATH",
        multiple=True,
        help="For a signature: leave out this path, relative to ROOT, with all below; repeatable.",
    ),
)


# Adds the options of `verify` that are only for signatures; None or () if not given.
signature_options: Final = options_of(_OPTIONS)
