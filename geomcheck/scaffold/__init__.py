"""From a directory of runs to a project that judges them: what is there, which runs go together, the files to write."""

from geomcheck.scaffold.files import File, checks, ini_lines, workflow
from geomcheck.scaffold.grouping import Group, groups
from geomcheck.scaffold.survey import Found, Survey, survey

__all__ = ["File", "Found", "Group", "Survey", "checks", "groups", "ini_lines", "survey", "workflow"]
