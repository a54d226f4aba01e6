package secret_test

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/inventory"
)

// No text of an image tells a value that is found in any of them, and the image
// that was given stays as it is.
func TestRedact(t *testing.T) {
	token := glued("ghp_", "x7Qw9ZrT4bNm2KfLs8VyHc3JdGp6UaE1oR5t")
	userData := base64.StdEncoding.EncodeToString([]byte("#!/bin/sh\nexport DB_PASSWORD=" + random + "\n"))
	image := func() *inventory.Image {
		return &inventory.Image{
			Config: inventory.Config{
				Env:    []string{"PATH=/usr/bin", "DB_PASSWORD=" + strong + " and more", "USER_DATA=" + userData, "BIG=" + strings.Repeat("x ", 200<<10), token},
				Labels: map[string]string{"deploy.token": token, "version": "1.2", "b-" + token: "x"}, Cmd: []string{"serve", "--password", strong}, Entrypoint: []string{"sh", "-c", "curl -H 'Authorization: Bearer " + token + "' https://a.b.c"},
				Healthcheck: []string{"CMD", "mysql", "-p" + strong},
			},
			History: []inventory.Step{{Instruction: "RUN curl https://u:" + strong + "@intern/ && make"}, {Instruction: "ENV DB_PASSWORD=" + strong, Empty: true}, {Instruction: "RUN echo hello", Comment: "by " + token}},
			Layers:  []inventory.Layer{{DiffID: "sha256:1", Instruction: "RUN curl https://u:" + strong + "@intern/ && make"}, {Instruction: "RUN echo hello"}},
		}
	}
	given := image()
	got := engine(t).Redact(given)
	if d := cmp.Diff(given, image()); d != "" {
		t.Errorf("the image given was changed:\n%s", d)
	}
	want := &inventory.Image{
		Config: inventory.Config{
			Env:    []string{"PATH=/usr/bin", "DB_PASSWORD=***", "USER_DATA=***", "BIG=***", "***"},
			Labels: map[string]string{"deploy.token": "***", "version": "1.2", "b-***": "***"}, Cmd: []string{"serve", "--password", "***"}, Entrypoint: []string{"sh", "-c", "curl -H 'Authorization: Bearer ***' https://a.b.c"},
			Healthcheck: []string{"CMD", "mysql", "-p***"},
		},
		History: []inventory.Step{{Instruction: "RUN curl https://u:***@intern/ && make"}, {Instruction: "ENV DB_PASSWORD=***", Empty: true}, {Instruction: "RUN echo hello", Comment: "by ***"}},
		Layers:  []inventory.Layer{{DiffID: "sha256:1", Instruction: "RUN curl https://u:***@intern/ && make"}, {Instruction: "RUN echo hello"}},
	}
	if d := cmp.Diff(got, want); d != "" {
		t.Errorf("differs (-got +want):\n%s", d)
	}
	if engine(t).Redact(nil) != nil {
		t.Error("of no image came one")
	}
}

// What somebody makes up to break it breaks nothing, and what is found once is in
// no text.
func FuzzRedact(f *testing.F) {
	f.Add("A_PASSWORD="+random, "x="+random+random[3:], random)
	f.Add("=", "PASSWORD", "")
	f.Add("RUN |1 TOKEN="+strong, "\x00", "ENV ")
	e := engine(f)
	f.Fuzz(func(t *testing.T, a, b, c string) {
		got := e.Redact(&inventory.Image{Config: inventory.Config{Env: []string{a, b, "DB_PASSWORD=" + random}, Labels: map[string]string{b: c, a: b}, Cmd: []string{c, a}},
			History: []inventory.Step{{Instruction: a + c}}, Layers: []inventory.Layer{{Instruction: c}}})
		text, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), random) {
			t.Errorf("it tells %q: %s", random, text)
		}
		if len(got.Config.Labels) > 2 {
			t.Errorf("labels became more: %v", got.Config.Labels)
		}
	})
}
