from collections.abc import Callable
from typing import TypeVar

Function = TypeVar("Function", bound=Callable)

def in_default_mode(function: Function) -> Function: ...
def use_default_mode() -> None: ...
