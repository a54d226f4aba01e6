package secret_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/scan/analyse"
	"github.com/castellan-security/castellan/internal/scan/secret"
)

// Where a limit is reached it is said, with what was found.
func TestMany(t *testing.T) {
	var many, names strings.Builder
	for n := range 600 {
		fmt.Fprintf(&many, "DB_PASSWORD=%s%d\n", strong, n)
	}
	for range 20_000 {
		names.WriteString("password ")
	}
	for _, tc := range []struct {
		name, text string
		least      int
		many       bool
	}{
		{"few", "DB_PASSWORD=" + strong + "\n", 1, false},
		{"many", many.String(), 500, true},
		{"names", names.String(), 0, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			found, err := engine(t).Find(t.Context(), secret.File{Path: "a.env"}, strings.NewReader(tc.text))
			if len(found) < tc.least || errors.Is(err, secret.ErrMany) != tc.many || err != nil && !tc.many {
				t.Errorf("%d found, %v", len(found), err)
			}
			var shown analyse.Shown
			err = secret.Analyser{Engine: engine(t)}.Take(t.Context(), &analyse.Entry{Path: "a.env"}, strings.NewReader(tc.text), &shown)
			if len(shown.Secrets) != len(found) || (err != nil) != tc.many {
				t.Errorf("the analyser shows %d, %v", len(shown.Secrets), err)
			}
		})
	}
}

// Two of one kind within one run of base64 are two.
func TestTwoInOneRun(t *testing.T) {
	run := base64.StdEncoding.EncodeToString([]byte("#!/bin/sh\nexport DB_PASSWORD=" + strong + "\nexport MAIL_PASSWORD=0" + strong + "\n"))
	found, err := engine(t).FindText(secret.File{Path: "a.yaml"}, []byte("UserData: "+run+"\n"))
	if err != nil || len(found) != 2 || found[0].Name != "DB_PASSWORD" || found[1].Name != "MAIL_PASSWORD" {
		t.Errorf("found %v, want both passwords", lines(found))
	}
}
