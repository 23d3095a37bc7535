package schema

import (
	"cmp"
	"strconv"
	"strings"

	"sluice"
)

// join gives the path of a property below a path: "configuration.poolSize";
// a name that would be misread is quoted: `headers["X.Y"]`.
func join(path, name string) string {
	if name == "" || strings.ContainsAny(name, ".[]\"\\ \t\r\n") {
		return path + "[" + strconv.Quote(name) + "]"
	}
	if path == "" {
		return name
	}
	return path + "." + name
}

// element gives the path of an element of an array: "matchers[0]".
func element(path string, index int) string {
	return path + "[" + strconv.Itoa(index) + "]"
}

// under puts a prefix before the paths of problems.
func under(prefix string, problems []sluice.Problem) []sluice.Problem {
	for i := range problems {
		problems[i].Path = Under(prefix, problems[i].Path)
	}
	return problems
}

// Under gives the path of what lies at path below prefix; either may be empty.
func Under(prefix, path string) string {
	switch {
	case prefix == "":
		return path
	case path == "" || strings.HasPrefix(path, "["):
		return prefix + path
	default:
		return prefix + "." + path
	}
}

func byPath(a, b sluice.Problem) int {
	return cmp.Or(strings.Compare(a.Path, b.Path), strings.Compare(a.Message, b.Message))
}
