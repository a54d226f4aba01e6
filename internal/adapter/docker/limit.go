package docker

import (
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Limits on what the engine says. It is trusted to be an engine, but passes on
// what whoever made a container wrote.
const (
	// maxContainers is how many containers are inspected when connecting; a host
	// runs hundreds, and remembers as many that ended until somebody removes them.
	maxContainers = 10_000
	// maxListBody is the size of a list of containers: maxContainers with some
	// kilobytes of labels each.
	maxListBody = 64 << 20
	// maxInspectBody is the size of one inspection. Environment and labels are
	// in it; the kernel itself refuses an environment beyond 2 MiB.
	maxInspectBody = 4 << 20
	// maxEventLine is the size of one event, which repeats all labels.
	maxEventLine = 1 << 20
	// maxErrorBody is how much of an error page is read for its message.
	maxErrorBody = 16 << 10

	// maxText bounds a name, a path or another word.
	maxText = 1024
	// maxArgument bounds one argument, maxArguments and maxCommand all of them:
	// a command line is shown and stored with each change of its workload.
	maxArgument  = 4096
	maxArguments = 128
	maxCommand   = 16 << 10
	maxPorts     = 256
	maxMounts    = 256
	// maxWords bounds capabilities and security options; there are 41
	// capabilities in all.
	maxWords     = 64
	maxAddresses = 64

	// maxLayers bounds the layers of an image: engines stop at 127.
	maxLayers = 1000
	// maxImageText bounds one text of an image and maxImageTexts each list of
	// them; all of them together are bounded by maxInspectBody.
	maxImageBody  = 8 << 20
	maxImageText  = 64 << 10
	maxImageTexts = 4096

	// maxPending is how many containers may have changed since they were last
	// inspected; beyond it everything is listed anew.
	maxPending = 4 * maxContainers
)

// Times of the conversation with an engine.
const (
	// settle is how long the changes of a container are collected after it was
	// inspected, so that one in a restart loop costs 20 inspections a second.
	settle = 50 * time.Millisecond
	// joins is how long a network that a container joins or leaves waits to be looked
	// into with what comes of it: a start takes that long.
	joins = 300 * time.Millisecond
	// answerWithin is how long a single answer may take. An engine under load
	// holds a container's lock for seconds while it starts it.
	answerWithin = 10 * time.Second
	// listWithin is the same for the list of containers.
	listWithin = 30 * time.Second
	// pulse is how often a silent engine is asked whether it is still there: a
	// hung one keeps its connections open.
	pulse = 30 * time.Second
	// saveWithin is how long an engine may take before it sends the first byte of
	// an image: those before 25 write all of it to their disk first.
	saveWithin = 10 * time.Minute
	// silentFor is how long it may send nothing from then on.
	silentFor = 2 * time.Minute
	// saveBuffer is how much of it is read at once.
	saveBuffer = 128 << 10
	// atOnce is how many containers are inspected at the same time: enough to
	// hide the way there and back, too few to slow the engine down.
	atOnce = 8
)

// clean makes untrusted text fit to keep: valid UTF-8 without control
// characters (each becomes U+FFFD) of at most limit bytes.
func clean(s string, limit int) string {
	if len(s) > limit {
		s = s[:limit]
		// A character cut in half is dropped, not turned into a replacement.
		for i := 1; i < utf8.UTFMax && i <= len(s); i++ {
			if tail := s[len(s)-i:]; utf8.RuneStart(tail[0]) {
				if !utf8.FullRuneInString(tail) {
					s = s[:len(s)-i]
				}
				break
			}
		}
	}
	plain := func(r rune) rune {
		if unicode.IsControl(r) {
			return utf8.RuneError
		}
		return r
	}
	s = strings.Map(plain, strings.ToValidUTF8(s, string(utf8.RuneError)))
	// A replacement takes three bytes where one stood.
	for len(s) > limit {
		_, size := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-size]
	}
	return s
}

// cleanAll cleans the first maxWords words of a list; it keeps an empty list nil.
func cleanAll(words []string) []string {
	if len(words) == 0 {
		return nil
	}
	out := make([]string, 0, min(len(words), maxWords))
	for _, w := range words[:min(len(words), maxWords)] {
		out = append(out, clean(w, maxText))
	}
	return out
}

// command cleans a path and its arguments to at most maxArguments of
// maxCommand bytes together.
func command(path string, args []string) []string {
	if path == "" && len(args) == 0 {
		return nil
	}
	out := []string{clean(path, maxArgument)}
	size := len(out[0])
	for _, a := range args {
		if len(out) == maxArguments || size == maxCommand {
			break
		}
		a = clean(a, min(maxArgument, maxCommand-size))
		size += len(a)
		out = append(out, a)
	}
	return out
}
