package authz

import (
	"fmt"
	"strings"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// maxMessage is how long a message is. What the engine and the ECS agent put
// before it ("CannotCreateContainerError: Error response from daemon: …") takes
// 100 characters, and a stopped task's reason is cut off at 1,024; older agents
// cut at 255, so the rule and what is wrong come first.
const maxMessage = 600

// message says in one line why a verdict refuses, for whoever ran the container:
// each reason with its rule, and the remedy of the first.
func message(v admission.Verdict) string {
	var parts []string
	remedy := ""
	for _, r := range v.Reasons {
		if r.Effect != admission.Denies && r.Effect != admission.Waits {
			continue
		}
		part := r.Message
		if r.Rule != "" {
			part = r.Rule + ": " + part
		}
		if !contains(parts, part) {
			parts = append(parts, part)
		}
		if remedy == "" {
			remedy = r.Remedy
		}
	}
	const shown = 3
	if more := len(parts) - shown; more > 0 {
		parts = append(parts[:shown], fmt.Sprintf("and %d more", more))
	}
	text := strings.Join(parts, "; ")
	if text == "" {
		text = "refused by the policy"
	}
	if v.Outcome == admission.Wait {
		text = "not decided yet, try again: " + text
	}
	if remedy != "" {
		text += ". Remedy: " + remedy
	}
	return line(text)
}

func contains(list []string, s string) bool {
	for _, have := range list {
		if have == s {
			return true
		}
	}
	return false
}

// line makes one line of text that is safe on a terminal.
func line(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > maxMessage {
		text = untrusted.Clip(text, maxMessage) + "…"
	}
	return untrusted.Text(text)
}

// told is an error and its remedy in one line.
func told(err error) string {
	text := err.Error()
	if remedy := fault.Remedy(err); remedy != "" {
		text += ". Remedy: " + remedy
	}
	return line(text)
}
