"""How a grade, stage, side or code is usually written, so that it can be marked in a report."""

from retrieval.engine.words.expressions import PREFIX

_GRADES = {
    "1": ("grade 1", "grade I", "G1", "well differentiated"),
    "2": ("grade 2", "grade II", "G2", "moderately differentiated"),
    "3": ("grade 3", "grade III", "G3", "poorly differentiated"),
    "4": ("grade 4", "grade IV", "G4"),
    "high": ("high grade",),
    "low": ("low grade",),
    "intermediate": ("intermediate grade",),
}
_ROMAN = ("0", "I", "II", "III", "IV", "V")
_SIDES = {
    "left": ("left", "links", "linke", "linken"),
    "right": ("right", "rechts", "rechte", "rechten"),
    "bilateral": ("bilateral", "beidseits"),
}


def surfaces_of(tags: tuple[str, ...]) -> tuple[str, ...]:
    """Return the usual ways to write what the tags stand for."""
    return tuple(dict.fromkeys(text for tag in tags for text in _surface(tag)))


def _surface(tag: str) -> tuple[str, ...]:
    name = tag.removeprefix(PREFIX)
    if name in _SIDES:
        return _SIDES[name]
    for system, word in (("fuhrman", "Fuhrman"), ("who", "WHO"), ("nottingham", "Nottingham")):
        if name.startswith(system):
            number = name.removeprefix(system)
            return (f"{word} grade {number}", *_GRADES.get(number, ()))
    if name.startswith("grade"):
        return _GRADES.get(name.removeprefix("grade"), ())
    if name.startswith("gleason"):
        value = name.removeprefix("gleason").replace("p", "+")
        return (f"Gleason {value}", f"Gleason score {value}", value if "+" in value else "")[
            : 3 if "+" in value else 2
        ]
    if name.startswith("isup"):
        number = name.removeprefix("isup")
        return (f"grade group {number}", f"ISUP {number}")
    if name.startswith("stage"):
        value = name.removeprefix("stage")
        roman = _ROMAN[int(value[0])]
        return (f"stage {roman}{value[1:].upper()}", f"stage {value}")
    if name.startswith("code"):
        code = name.removeprefix("code").replace("s", "/").replace("d", ".")
        return (code.upper(),)
    value = f"{name[0].upper()}{name[1:]}"
    return (f"p{value}", value)
