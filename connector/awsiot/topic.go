package awsiot

import (
	"fmt"
	"regexp"
	"strings"

	"sluice/internal/pattern"
)

// AWS's limits of topics and topic filters. Those of Basic Ingest do not count
// "$aws/rules/<rule>/". Source: AWS IoT Core endpoints and quotas, "Message
// broker and protocol limits and quotas".
const (
	maxTopicBytes   = 256
	maxTopicSlashes = 7
	basicIngest     = "$aws/rules/"
)

// topic is a pattern that AWS takes.
type topic struct {
	*pattern.Pattern
	exempt int // bytes at the start that do not count
}

// compileTopic compiles the pattern of a topic and finds what AWS would
// refuse; problems are sentences.
func compileTopic(text string, publish bool) (*topic, []string) {
	if text == "" {
		return nil, []string{"The pattern is empty."}
	}
	var problems []string
	s, faults := pattern.Faults(text)
	for _, err := range faults {
		problems = append(problems, fmt.Sprintf("The pattern cannot be read: %v.", err))
	}
	t := &topic{}
	for _, c := range s.Wildcards {
		problems = append(problems, fmt.Sprintf("A topic cannot hold %q; write an expression such as {DevEUI} instead.", c))
	}
	slashes := s.Slashes
	switch {
	case !strings.HasPrefix(text, "$"):
	case publish && strings.HasPrefix(text, basicIngest):
		rule, _, found := strings.Cut(text[len(basicIngest):], "/")
		if !found || !regexp.MustCompile(`^[a-zA-Z0-9_]+$`).MatchString(rule) {
			problems = append(problems, "A topic of Basic Ingest is $aws/rules/<rule name>/<topic>, where the rule's name is letters, digits and _.")
			break
		}
		t.exempt = len(basicIngest) + len(rule) + 1
		slashes -= 3
	case publish:
		problems = append(problems, "Topics that start with $ are reserved by AWS; only $aws/rules/<rule name>/<topic> can be published to.")
	default:
		problems = append(problems, "Topics that start with $ are reserved by AWS.")
	}
	if slashes > maxTopicSlashes {
		problems = append(problems, fmt.Sprintf("The topic has %d slashes; AWS takes at most %d.", slashes, maxTopicSlashes))
	}
	if n := s.MinBytes - t.exempt; n > maxTopicBytes {
		problems = append(problems, fmt.Sprintf("The topic has at least %d bytes; AWS takes at most %d.", n, maxTopicBytes))
	}
	if len(problems) > 0 {
		return nil, problems
	}
	p, err := pattern.Compile(text)
	if err != nil {
		return nil, []string{fmt.Sprintf("The pattern cannot be read: %v.", err)}
	}
	t.Pattern = p
	return t, nil
}

// tooLong reports whether a topic that the pattern made is too long for AWS.
// Its slashes are those of the pattern, which were counted before.
func (t *topic) tooLong(s string) bool { return len(s)-t.exempt > maxTopicBytes }
