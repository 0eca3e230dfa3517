"""What is written to users: Jinja templates, in a sandbox, since they come from outside."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

import jinja2
from jinja2 import ChainableUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from msgspec import Struct

from services.notification.domain.contacts import MessageType
from services.notification.domain.messages import chosen_language


class Template(Struct, frozen=True):
    """What is written in one language."""

    language: str
    subject: str
    text: str
    html: str = ""
    push: str = ""
    """What a device shows; empty: the text."""


class Written(Struct, frozen=True):
    """What one user gets."""

    language: str
    subject: str
    """One line."""
    text: str
    html: str
    push: str


class TemplateFailure(Exception):
    """A template cannot be rendered; the text says why."""


# What a user does not have is empty: a message without a name is better than none.
_TEXT: Final = ImmutableSandboxedEnvironment(
    undefined=ChainableUndefined, trim_blocks=True, lstrip_blocks=True
)
_HTML: Final = ImmutableSandboxedEnvironment(
    undefined=ChainableUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=True
)

DEFAULTS: Final[Mapping[MessageType, Sequence[Template]]] = {
    MessageType.ACHIEVEMENT: (
        Template(
            "en",
            "{% if achievements|length == 1 %}{{ achievements[0].name }}: well done!"
            "{% else %}{{ achievements|length }} achievements: well done!{% endif %}",
            "Hello{% if user.name %} {{ user.name }}{% endif %},\n\nyou have earned:\n\n"
            "{% for achievement in achievements %}\n* {{ achievement.name }}\n{% endfor %}\n",
            push="You have earned {{ achievements|map(attribute='name')|join(', ') }}.",
        ),
        Template(
            "de",
            "{% if achievements|length == 1 %}{{ achievements[0].name }}: gut gemacht!"
            "{% else %}{{ achievements|length }} Erfolge: gut gemacht!{% endif %}",
            "Hallo{% if user.name %} {{ user.name }}{% endif %},\n\ndas ist geschafft:\n\n"
            "{% for achievement in achievements %}\n* {{ achievement.name }}\n{% endfor %}\n",
            push="Geschafft: {{ achievements|map(attribute='name')|join(', ') }}.",
        ),
    ),
    MessageType.STREAK_REMINDER: (
        Template(
            "en",
            "{% if streaks|length == 1 %}{{ streaks[0].name }}: {{ streaks[0].length }} in a row, until "
            "{{ streaks[0].expires_at }}{% else %}{{ streaks|length }} streaks end soon{% endif %}",
            "Hello{% if user.name %} {{ user.name }}{% endif %},\n\nthis ends unless you go on:\n\n"
            "{% for streak in streaks %}\n* {{ streak.name }}: {{ streak.length }} in a row, until "
            "{{ streak.expires_at }}\n{% endfor %}\n",
            push="Go on and keep {{ streaks|map(attribute='name')|join(', ') }}.",
        ),
        Template(
            "de",
            "{% if streaks|length == 1 %}{{ streaks[0].name }}: {{ streaks[0].length }} in Folge, bis "
            "{{ streaks[0].expires_at }} Uhr{% else %}{{ streaks|length }} Serien enden bald{% endif %}",
            "Hallo{% if user.name %} {{ user.name }}{% endif %},\n\ndas endet, wenn du nicht weitermachst:\n\n"
            "{% for streak in streaks %}\n* {{ streak.name }}: {{ streak.length }} in Folge, bis "
            "{{ streak.expires_at }} Uhr\n{% endfor %}\n",
            push="Mach weiter und behalte {{ streaks|map(attribute='name')|join(', ') }}.",
        ),
    ),
    MessageType.RECAP: (
        Template(
            "en",
            "{{ first_date }} to {{ last_date }}: what it brought",
            "Hello{% if user.name %} {{ user.name }}{% endif %},\n\n"
            "this is what {{ first_date }} to {{ last_date }} brought:\n\n"
            "{% for each in metrics %}\n* {{ each.name }}: {{ each.amount }}"
            "{% if each.before is not none %} (before: {{ each.before }}){% endif %}\n\n{% endfor %}"
            "{% for each in points %}\n* {{ each.name }}: +{{ each.amount }} (before: +{{ each.before }})\n{% endfor %}"
            "{% for each in streaks %}\n* {{ each.name }}: {{ each.length }} in a row\n{% endfor %}"
            "{% for each in ranks %}\n* {{ each.name }}: place {{ each.best }}"
            "{% if each.before %} (before: {{ each.before }}){% endif %}\n\n{% endfor %}"
            "{% for each in achievements %}\n* {{ each.name }}\n{% endfor %}\n",
            push="{% for each in metrics %}{{ each.name }}: {{ each.amount }}. {% endfor %}"
            "{% for each in points %}{{ each.name }}: +{{ each.amount }}. {% endfor %}",
        ),
        Template(
            "de",
            "{{ first_date }} bis {{ last_date }}: dein Rückblick",
            "Hallo{% if user.name %} {{ user.name }}{% endif %},\n\n"
            "das war von {{ first_date }} bis {{ last_date }}:\n\n"
            "{% for each in metrics %}\n* {{ each.name }}: {{ each.amount }}"
            "{% if each.before is not none %} (davor: {{ each.before }}){% endif %}\n\n{% endfor %}"
            "{% for each in points %}\n* {{ each.name }}: +{{ each.amount }} (davor: +{{ each.before }})\n{% endfor %}"
            "{% for each in streaks %}\n* {{ each.name }}: {{ each.length }} in Folge\n{% endfor %}"
            "{% for each in ranks %}\n* {{ each.name }}: Platz {{ each.best }}"
            "{% if each.before %} (davor: {{ each.before }}){% endif %}\n\n{% endfor %}"
            "{% for each in achievements %}\n* {{ each.name }}\n{% endfor %}\n",
            push="{% for each in metrics %}{{ each.name }}: {{ each.amount }}. {% endfor %}"
            "{% for each in points %}{{ each.name }}: +{{ each.amount }}. {% endfor %}",
        ),
    ),
    MessageType.REACTIVATION: (
        Template(
            "en",
            "We have not seen you for {{ days }} days",
            "Hello{% if user.name %} {{ user.name }}{% endif %},\n\n"
            "your last visit was {{ days }} days ago. Today is a good day to go on.\n",
            push="Today is a good day to go on.",
        ),
        Template(
            "de",
            "Seit {{ days }} Tagen nicht gesehen",
            "Hallo{% if user.name %} {{ user.name }}{% endif %},\n\n"
            "dein letzter Besuch ist {{ days }} Tage her. Heute ist ein guter Tag, um weiterzumachen.\n",
            push="Heute ist ein guter Tag, um weiterzumachen.",
        ),
    ),
}
"""What comes with Laurel."""


def written(templates: Sequence[Template], language: str, known: Mapping[str, object]) -> Written:
    """What a user of this language gets. Raises `TemplateFailure`."""
    template = templates[chosen_language(language, [each.language for each in templates])]
    return Written(
        template.language,
        " ".join(_render(template.subject, known).split()),
        _render(template.text, known),
        _render(template.html, known, html=True),
        _render(template.push, known),
    )


def problem_of(source: str, sample: Mapping[str, object]) -> str | None:
    """What is wrong with a template; None: nothing that shows with this sample."""
    try:
        _render(source, sample)
    except TemplateFailure as failure:
        return str(failure)
    return None


def _render(source: str, known: Mapping[str, object], *, html: bool = False) -> str:
    try:
        rendered: str = _compiled(source, html).render(known)
    except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        # SecurityError of the sandbox and OverflowError of its ranges are among these.
        raise TemplateFailure(f"cannot be rendered: {error}") from error
    return rendered


@lru_cache(maxsize=256)
def _compiled(source: str, html: bool) -> jinja2.Template:
    return (_HTML if html else _TEXT).from_string(source)
