package dockerfile_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/scan/blueprint"
	"github.com/castellan-security/castellan/internal/scan/iac/dockerfile"
)

const example = "# escape=`\n# syntax=docker/dockerfile:1\nARG V=1.2\nARG REPO\nFROM --platform=$BUILDPLATFORM golang:${V} AS build\n" +
	"RUN --mount=type=cache,target=/root/.cache `\n  # a comment\n\n  go build\nENV A=1 B=\"two words\" `\n  C=$D\n" +
	"FROM ${REPO}/base:3 AS base\nUSER app\nEXPOSE 22 80/tcp\nRUN <<EOF\napt-get update\nFROM nothing\nEOF\nfrom base\nENV OLD the value\nHEALTHCHECK NONE\nHEALTHCHECK CMD /ok\n"

func TestParse(t *testing.T) {
	b, err := dockerfile.Parse([]byte(example), "Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	var steps []string
	for _, s := range b.Steps {
		steps = append(steps, fmt.Sprintf("%d-%d %s %v %q %v", s.At.Start.Line, s.At.End.Line, s.Word, s.Flags, s.Args, s.Last))
	}
	if diff := cmp.Diff(steps, []string{
		`5-5 FROM [--platform=$BUILDPLATFORM] "golang:${V} AS build" false`,
		`6-9 RUN [--mount=type=cache,target=/root/.cache] "go build" false`,
		`10-11 ENV [] "A=1 B=\"two words\"  C=$D" false`,
		`12-12 FROM [] "${REPO}/base:3 AS base" true`,
		`13-13 USER [] "app" true`,
		`14-14 EXPOSE [] "22 80/tcp" true`,
		"15-18 RUN [] \"\\napt-get update\\nFROM nothing\\n\" true",
		`19-19 FROM [] "base" true`,
		`20-20 ENV [] "OLD the value" true`,
		`21-21 HEALTHCHECK [] "NONE" true`,
		`22-22 HEALTHCHECK [] "CMD /ok" true`,
	}); diff != "" {
		t.Errorf("got, want: %s", diff)
	}
	if b.User.V != "app" || b.Health != blueprint.Known || len(b.Ports) != 2 || b.At.Start.Line != 19 {
		t.Errorf("user %v, health %v, ports %v, at %v", b.User, b.Health, b.Ports, b.At)
	}
	if b.Base.Is != blueprint.Unknown || b.Base.V != "${…}/base:3" || b.Steps[0].Image.V != "golang:1.2" || !b.Steps[7].Image.Absent() {
		t.Errorf("base %+v, first %+v, last %+v", b.Base, b.Steps[0].Image, b.Steps[7].Image)
	}
	if len(b.Env) != 1 || b.Env[0].Name.V != "OLD" || b.Env[0].Value.V != "the value" {
		t.Errorf("variables %+v", b.Env)
	}
}

func TestErrors(t *testing.T) {
	for text, want := range map[string]string{
		"":                               "no FROM",
		"RUN x":                          "no FROM",
		"FROM a\nhello":                  `line 2: "HELLO" is no instruction`,
		"FROM a\x00":                     "no text",
		"FROM a \\":                      "",
		"FROM\n":                         "no FROM",
		"FROM a\nRUN \\":                 "",
		strings.Repeat("\n", 1<<20+1):    "at most",
		strings.Repeat("FROM a\n", 5001): "more than 5000",
	} {
		if _, err := dockerfile.Parse([]byte(text), "f"); (err != nil) != (want != "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %v, want %q", text, err, want)
		}
	}
}

// FuzzParse: it ends, and instructions stand in their order within the file.
func FuzzParse(f *testing.F) {
	f.Add([]byte(example))
	f.Add([]byte("FROM a\nRUN <<A <<B\nA\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := dockerfile.Parse(data, "f")
		if err != nil {
			return
		}
		line, lines := 0, strings.Count(string(data), "\n")+1
		for _, s := range b.Steps {
			if s.At.Start.Line <= line || s.At.End.Line < s.At.Start.Line || s.At.End.Line > lines {
				t.Fatalf("step at %v after line %d of %d", s.At, line, lines)
			}
			line = s.At.Start.Line
		}
	})
}

// What only looks like a heredoc leaves the rest of the file alone.
func TestNoHeredoc(t *testing.T) {
	for _, run := range []string{"RUN cat <<<hello", "RUN cat <<< hello", `RUN sh -c 'x <<<"$A"'`, "RUN echo ' <<X '", "RUN echo 1 << 2", "RUN cat <<EOF"} {
		b, err := dockerfile.Parse([]byte("FROM a\n"+run+"\nUSER app\nHEALTHCHECK CMD /ok\n"), "Dockerfile")
		if err != nil {
			t.Fatal(err)
		}
		if len(b.Steps) != 4 || b.User.V != "app" || b.Health != blueprint.Known {
			t.Errorf("%s: %d steps, user %q", run, len(b.Steps), b.User.V)
		}
	}
	b, err := dockerfile.Parse([]byte("FROM a\nRUN <<A cat <<-\"B\"\none\nA\n\ttwo\n\tB\nUSER app\n"), "Dockerfile")
	if err != nil || len(b.Steps) != 3 || b.User.V != "app" || !strings.Contains(b.Steps[1].Args, "one\n") || !strings.Contains(b.Steps[1].Args, "two\n") {
		t.Errorf("two heredocs: %v, %+v", err, b.Steps)
	}
}

// Heredocs that never end cost no more than is permitted.
func TestManyHeredocsWithoutEnd(t *testing.T) {
	text := "FROM a\nRUN cat" + strings.Repeat(" <<X", 100_000) + "\n" + strings.Repeat("#\n", 250_000)
	if b, err := dockerfile.Parse([]byte(text), "Dockerfile"); err != nil || len(b.Steps) != 2 {
		t.Errorf("%v, %d steps", err, len(b.Steps))
	}
}
