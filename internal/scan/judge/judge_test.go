package judge_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/scan/judge"
)

// What a name and a value together make a secret, by where they stand, and what
// only looks like one. Each answer is a kind with its doubt.
func TestPair(t *testing.T) {
	const word, example = " [" + judge.DoubtWord + "]", " [" + judge.DoubtExample + "]"
	for _, tc := range []struct{ name, value, own, quoted string }{
		{"DB_PASSWORD", "hunter2", "password", "password" + word},
		{"DB_PASSWORD", "hunter2hunter2", "password", "password"},
		{"DB_PASSWORD", "changeme", "password", ""},
		{"DB_PASSWORD", "Passphrase of mine", "password" + word, ""},
		{"POSTGRES_PASSWORD", "postgres", "password", "password" + word},
		{"MYSQL_ROOT_PASSWORD", "secret", "password", ""},
		{"PGPASSWORD", "1234", "password", ""},
		{"DB_PWD", "s3cret!", "password", "password" + example},
		{"MAIN_PASSWORD_OLD", "hunter2hunter2", "password", ""},
		{"spring.datasource.password", "hunter2hunter2", "password", "password"},
		{"GPG_PASSPHRASE", "hunter2hunter2", "passphrase", "passphrase"},
		{"clientSecret", "f00dcafe", "secret", ""},
		{"clientSecret", "q8Zr4Lw2Vn7Xc1Bm5Ty9", "secret", "secret"},
		{"API_KEY", "f00dcafe", "key", ""},
		{"AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMIK7MDENGbPxRfiCYz9Q3vT0sLm8K", "key", "key"},
		{"GITHUB_TOKEN", "f00dcafe", "token", ""},
		{"GITHUB_TOKEN", "development", "token" + word, ""},
		{"VERIFY_TOKEN", "my-test-token-1", "token" + word, ""},
		{"API_KEY", "qZrLwVnXcBmTyKdHsPf", "key", "key"},
		{"API_KEY", "SomeNameOfSomeThing", "key" + word, ""},
		{"DB_PASSWORD", "qZrLwVnXcBmTyKdHsPf", "password", "password"},
		{"SESSION_SECRET", "demo8f2c1d9b", "secret" + example, "secret" + example},

		{"KEYSTORE_PASSWORD", "q8Zr4LwKeyAlgo", "password", "password"},
		{"HOST_TOKEN", "KeyAlgoED25519", "token", ""},
		{"SMTP_PASSWORD", "aes-my-9-lives", "password", "password"},

		{"PASSWORD", "scram-sha-256", "", ""},
		{"TOKEN_SECRET", "aes-256-gcm", "", ""},
		{"DB_PASSWORD_FILE", "/run/secrets/db", "", ""},
		{"DB_PASSWORD", "/run/secrets/db", "", ""},
		{"DB_PASSWORD", "{{resolve:secretsmanager:x}}", "", ""},
		{"DB_PASSWORD", "", "", ""},
		{"DB_PASSWORD", "true", "", ""},
		{"DB_PASSWORD", "<your password>", "", ""},
		{"DB_PASSWORD", "your_password", "", ""},
		{"DB_PASSWORD", "$2b$12$KIXQ9m3bVx1qYw8F0sZ1uOe7s5b0VwWv3x1", "", ""},
		{"KEYSTORE_PASSWORD", "changeit", "", ""},
		{"TOKEN_TTL", "3600", "", ""},
		{"ACCESS_TOKEN_EXPIRES", "86400s00", "", ""},
		{"TOKEN_SERVICE", "auth.internal", "", ""},
		{"SECRET_ARN", "arn:aws:secretsmanager:x", "", ""},
		{"SECRET_NAME", "shop/db/password", "", ""},
		{"MYSQL_ALLOW_EMPTY_PASSWORD", "absolutely", "", ""},
		{"PUBLIC_KEY", "MIIBIjANBgkqh", "", ""},
		{"REGISTRY_AUTH_HTPASSWD_REALM", "Registry Realm", "", ""},
		{"MONKEY", "bananas", "", ""},
		{"KEYBOARD", "qwertz99", "", ""},
		{"PWD", "/srv/app", "", ""},
		{"COMPASS_MODE", "northern", "", ""},
		{"BYPASS", "northern1", "", ""},
		{"JWT_ALGORITHM", "HS256HS256", "", ""},
		{"AUTH_TOKEN", "0123456789", "", ""},
	} {
		for place, want := range map[judge.Place]string{judge.Own: tc.own, judge.Quoted: tc.quoted} {
			got := ""
			if v, ok := judge.Pair(tc.name, tc.value, place); ok {
				got = string(v.Kind)
				if v.Doubt != "" {
					got += " [" + v.Doubt + "]"
				}
			}
			if got != want {
				t.Errorf("%s=%s at %d: %q, want %q", tc.name, tc.value, place, got, want)
			}
		}
	}
}

func TestForm(t *testing.T) {
	for _, tc := range []struct{ value, want string }{
		{"AKIAQYLPMN5HAAAAAAAA", "an AWS access key"},
		{"AKIAIOSFODNN7EXAMPLE", ""},
		{"ghp_" + strings.Repeat("a", 36), "a token"},
		{"postgres://app:hunter2@db:5432/app", "an address with a password"},
		{"see https://a/b and postgres://app:hunter2@db:5432/app", "an address with a password"},
		{"-----BEGIN RSA PRIVATE KEY-----\nMII", "a private key"},
		{"postgres://app:${PASSWORD}@db/app", ""},
		{"postgres://app:hunter2@localhost/app", ""},
		{"amqp://guest:guest@queue", ""},
		{"postgres://db/app", ""},
		{"", ""},
	} {
		if got := judge.Form(tc.value); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.value, got, tc.want)
		}
	}
}

func TestWords(t *testing.T) {
	for _, tc := range []struct{ words, want []string }{
		{[]string{"run", "--password", "hunter2"}, []string{"password"}},
		{[]string{"run", "--db.password=hunter2"}, []string{"db.password"}},
		{[]string{"sh", "-c", "PGPASSWORD=hunter2 psql -h db"}, []string{"PGPASSWORD"}},
		{[]string{"sh", "-c", "tool --token f00dcafe --verbose"}, []string{"token"}},
		{[]string{"curl", "https://app:hunter2@repo.internal"}, []string{"https"}},
		{[]string{"login", "--token", "ghp_" + strings.Repeat("a1", 18)}, []string{"token", "a word"}},
		{[]string{"login", "glpat-" + strings.Repeat("a", 20)}, []string{"a word"}},
		{[]string{"login", "xoxb-123456789012"}, []string{"a word"}},
		{[]string{"adduser", "--disabled-password", "app"}, nil},
		{[]string{"run", "--password", "$PASSWORD"}, nil},
		{[]string{"login", "--password-stdin"}, nil},
		{[]string{"run", "--token-file", "/run/t"}, nil},
		{[]string{"run", "--password", "--verbose"}, nil},
		{[]string{"echo", "the password is not here"}, nil},
	} {
		var got []string
		for _, f := range judge.Words(tc.words) {
			got = append(got, f.Name)
		}
		if diff := cmp.Diff(got, tc.want); diff != "" {
			t.Errorf("%q: got, want: %s", tc.words, diff)
		}
	}
}

// What may tell a secret is not shown, even if most likely it is none.
func TestMayHold(t *testing.T) {
	for text, want := range map[string]bool{
		"curl https://app:hunter2@example.org": true, "tool --token development": true, "key AKIAIOSFODNN7EXAMPLE": true, "PASSWORD=changeit make": true,
		"curl https://example.org/a:b": false, "make PASSWORD=$PASSWORD": false, "tool --password-file /run/x": false, "": false,
	} {
		if got := judge.MayHold(text); got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
}

// FuzzPair: it ends, without a panic; what is surely a secret in a text is one in a
// field of its own, too, doubtful or not, unless the field knows better.
func FuzzPair(f *testing.F) {
	f.Add("DB_PASSWORD", "hunter2")
	f.Add("", "")
	f.Add("token\x00", "https://a:b@c://d:e@f")
	f.Fuzz(func(t *testing.T, name, value string) {
		for _, at := range []judge.Place{judge.Bare, judge.Quoted, judge.Own} {
			if v, ok := judge.Pair(name, value, at); ok && (v.Kind == "" || len(value) == 0) {
				t.Errorf("%q=%q at %d: %+v", name, value, at, v)
			}
		}
		if judge.Form(value) != "" && !judge.MayHold(value) {
			t.Errorf("%q is a secret that might be shown", value)
		}
		for _, w := range judge.Words([]string{name, value}) {
			if w.At > 1 || w.Kind == "" {
				t.Errorf("%+v", w)
			}
		}
	})
}
