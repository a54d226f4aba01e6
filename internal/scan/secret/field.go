package secret

import (
	"bytes"
	"path"
	"strings"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/check"
	"github.com/castellan-security/castellan/internal/scan/judge"
)

// Where something stands says how sure it is that it is a value, and which check
// is about secrets there.

// placeAt says what a text at a place is to the judge: a variable or an argument is
// used as it stands.
func (s *sifting) placeAt(at int) judge.Place {
	switch s.f.Source {
	case inventory.InEnv, inventory.InArgument:
		return judge.Own
	case inventory.InLabel:
		if at == 0 { // what is within a label may be a text for people
			return judge.Own
		}
	case inventory.InHistory:
		if setsVariables(firstWord(s.buf)) {
			return judge.Own
		}
	case "":
		if setsVariables(s.instruction(at)) {
			return judge.Own
		}
	}
	return judge.Quoted
}

// checkAt is the check that is about secrets at a place, "" for none.
func (s *sifting) checkAt(at int) string {
	word := ""
	switch s.f.Source {
	case inventory.InEnv, inventory.InLabel:
		return check.SecretInImage
	case inventory.InArgument:
		// "RUN |1 A=b /bin/sh -c make": the arguments, and what is run with them.
		if bytes.Contains(s.buf[:at], []byte("/bin/sh -c ")) {
			return check.SecretInStep
		}
		return check.SecretInImage
	case inventory.InHistory:
		word = firstWord(s.buf)
	case "":
		word = s.instruction(at)
	}
	switch {
	case setsVariables(word):
		return check.SecretInImage
	case word == "RUN":
		return check.SecretInStep
	}
	return ""
}

// setsVariables says of an instruction that it does.
func setsVariables(word string) bool { return word == "ENV" || word == "ARG" || word == "LABEL" }

// maxInstruction is how far before a place its instruction may begin.
const maxInstruction = 4 << 10

// instruction is the one of a Dockerfile that a place is in, in capitals; "" in
// other files.
func (s *sifting) instruction(at int) string {
	if !isDockerfile(s.f.Path) {
		return ""
	}
	low := max(0, at-maxInstruction)
	for end := at; ; {
		begin := low + bytes.LastIndexByte(s.buf[low:end], '\n') + 1
		above := bytes.TrimRight(s.buf[low:begin], " \t\r\n")
		if begin == low || !bytes.HasSuffix(above, []byte{'\\'}) {
			return firstWord(s.buf[begin:])
		}
		end = low + len(above) // the line goes on from the one above
	}
}

// firstWord is the first word of a text, in capitals; "" of one that has none.
func firstWord(b []byte) string {
	const longest = 16
	b = bytes.TrimLeft(b, " \t")
	word := judge.Span(b, 0, longest, isLetter)
	return strings.ToUpper(string(word))
}

// isDockerfile says so by a file's name.
func isDockerfile(p string) bool {
	base := strings.ToLower(path.Base(p))
	for _, name := range []string{"dockerfile", "containerfile"} {
		if strings.HasPrefix(base, name) || strings.HasSuffix(base, "."+name) {
			return true
		}
	}
	return false
}
