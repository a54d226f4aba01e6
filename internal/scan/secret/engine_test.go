package secret_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/secret"
)

func engine(t testing.TB) *secret.Engine {
	t.Helper()
	e, err := secret.New(secret.Options{Salt: []byte("salt of a test")})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// lines are findings as lines: rule, place, name, length and what is known more.
func lines(found []inventory.Secret) []string {
	var out []string
	for _, f := range found {
		s := fmt.Sprintf("%s %d:%d %s #%d", f.Rule, f.Line, f.Column, f.Name, f.Length)
		for _, more := range []string{f.Doubt, f.Account, string(f.Key)} {
			if more != "" {
				s += " [" + more + "]"
			}
		}
		if f.Allowed != nil {
			s += " allowed: " + f.Allowed.Reason
		}
		out = append(out, s)
	}
	return out
}

// glued puts a secret of a test together, so that no scanner takes this file for a
// place where one is kept.
func glued(parts ...string) string { return strings.Join(parts, "") }

var (
	awsID     = glued("ASIA", "QNZGKIQY56JQ7WML") // of a public text on such ids
	awsSecret = glued("wJalrXUtnFEMI", "K7MDENGbPxRfiCYz9", "Q3vT0sLm8K")
	strong    = glued("Tr0ub4dor", "&3xK9")
	random    = glued("q8Zr4Lw2Vn", "7Xc1Bm5Ty9Kd3")
)

func TestFind(t *testing.T) {
	for _, tc := range []struct {
		name, path, text string
		want             []string
	}{
		{"nothing", "app.py", "import os\npassword = os.environ['DB_PASSWORD']\n", nil},
		{"URL", "app.py", `dsn = "postgres://shop:` + strong + `@db.internal:5432/shop"`, []string{"url-credentials 1:24 shop #14"}},
		{"URL with a place holder", "app.py", `dsn = "postgres://shop:${PASSWORD}@db.internal/shop"`, nil},
		{"URL of an example", "app.py", `dsn = "postgres://user:password@localhost/db"`, nil},
		{"password in code", "app.py", "x = 1\nDB_PASSWORD = '" + strong + "'\n", []string{"password 2:16 DB_PASSWORD #14"}},
		{"word in code", "app.py", "password = 'Passphrase required'\nlabel_password = 'Kennwort'\n", nil},
		{"properties", "application.properties", "spring.datasource.password=" + strong + "\n", []string{"password 1:28 spring.datasource.password #14"}},
		{"place holders", ".env", "PASSWORD=changeme\nDB_PASSWORD=${X}\nTOKEN=<your token>\nSECRET_KEY=xxxxxxxxxxxxxxxx\n", nil},
		{"hash", "users.yaml", "password: $2b$12$KIXQ9m3bVx1qYw8F0sZ1uOe7s5b0VwWv3x1\n", nil},
		{"YAML", "values.yaml", "db:\n  password: " + strong + "\n", []string{"password 2:13 password #14"}},
		{"JSON", "settings.json", `{"db": {"password": "` + strong + `"}}`, []string{"password 1:22 password #14"}},
		{"XML", "context.xml", `<password>` + strong + `</password>`, []string{"password 1:11 password #14"}},
		{"AWS key and its secret", ".aws/credentials", "[default]\naws_access_key_id = " + awsID + "\naws_secret_access_key = " + awsSecret + "\n",
			[]string{"aws-access-token 2:21  #20 [029608264753]", "aws-secret-access-key 3:25 aws_secret_access_key #40"}},
		{"task definition", "task.json", `{"environment":[{"name":"DB_PASSWORD","value":"` + strong + `"}],"secrets":[{"name":"API_TOKEN","valueFrom":"arn:aws:ssm:eu-west-1:123456789012:parameter/x"}]}`,
			[]string{"password 1:48 DB_PASSWORD #14"}},
		{"value before name", "task.json", `[{"value": "` + strong + `", "name": "DB_PASSWORD"}]`, []string{"password 1:13 DB_PASSWORD #14"}},
		{"CloudFormation environment", "stack.yaml", "Environment:\n  - Name: DB_PASSWORD\n    Value: " + strong + "\n", []string{"password 3:12 DB_PASSWORD #14"}},
		{"CloudFormation default", "stack.yaml", "Parameters:\n  DbPassword:\n    Type: String\n    NoEcho: true\n    Default: " + strong + "\n  Other:\n    Default: x\n",
			[]string{"password 5:14 DbPassword #14"}},
		{"CloudFormation no default", "stack.yaml", "Parameters:\n  DbPassword:\n    Type: String\n  Other:\n    Default: " + strong + "\n", nil},
		{"Terraform default", "main.tf", "variable \"db_password\" {\n  type = string\n  default = \"" + strong + "\"\n}\n", []string{"password 3:14 db_password #14"}},
		{"Terraform jsonencode", "main.tf", "container_definitions = jsonencode([{\n environment = [{ name = \"API_TOKEN\", value = \"" + random + "\" }]\n}])", []string{"token 2:48 API_TOKEN #23"}},
		{"Terraform reference", "main.tf", "password = var.db_password\n", nil},
		{"compose", "docker-compose.yml", "environment:\n  - DB_PASSWORD=" + strong + "\n  - TOKEN=${TOKEN}\n", []string{"password 2:17 DB_PASSWORD #14"}},
		{"Dockerfile", "Dockerfile", "FROM scratch\nENV DB_PASSWORD " + strong + "\nARG NPM_TOKEN=" + random + "\n", []string{"password 2:17 DB_PASSWORD #14", "token 3:15 NPM_TOKEN #23"}},
		{"inline allowance", "app.py", "DB_PASSWORD = '" + strong + "' # castellan:allow known weak until 2030-01-31\n", []string{"password 1:16 DB_PASSWORD #14 allowed: known weak"}},
		{"allowance before the value", "app.js", "/* castellan:allow old */ password = '" + strong + "'", []string{"password 1:39 password #14 allowed: old"}},
		{"allowance that would tell", "a.sh", "DB_PASSWORD=" + strong + " # castellan:allow " + strong, []string{"password 1:13 DB_PASSWORD #14 allowed: "}},
		{"token as the user", "a.sh", "git clone https://" + random + ":x-oauth-basic@git.internal/x", []string{"url-credentials 1:19  #23"}},
		{"user that may be a token", "a.sh", "git clone https://" + random + ":" + strong + "@git.internal/x", []string{"url-credentials 1:43  #14"}},
		{"in a test", "tests/app_test.py", "DB_PASSWORD = '" + strong + "'", []string{"password 1:16 DB_PASSWORD #14 [it stands where tests and examples are]"}},
		{"made up", "app.py", `key = "sk_live_` + glued("abcd1234", "efgh5678ijkl9012") + `"`, []string{"stripe-access-token 1:8  #32 [it looks like an example]"}},
		{"id of a key", "app.py", "# Key ID: d5cba29f-dcc8-434e-9d67-e4ed2fe95a52\n", []string{"generic-api-key 1:11  #36 [it looks like a digest, or the number of a version]"}},
		{"name of an algorithm", "app.go", "keyType = KeyAlgoED25519\n", []string{"generic-api-key 1:11  #14 [it looks like a word, not like a secret]"}},
		{"credentials in a text for people", "README.md", `{"auths":{"r.example":{"auth":"c2hvcDpzM2NyM3RTaG9wcGVyIQ=="}}}`, []string{"docker-registry-credentials 1:32 shop #28 [it stands in a text for people]"}},
		{"documents", "README.md", "password: " + strong, nil},
		{"docker", "root/.docker/config.json", `{"auths":{"r.example":{"auth":"c2hvcDpzM2NyM3RTaG9wcGVyIQ=="}}}`, []string{"docker-registry-credentials 1:32 shop #28"}},
		{"npm", "root/.npmrc", "//registry.example/:_authToken=" + random + "\n", []string{"npm-registry-credentials 1:32 _authToken #23"}},
		{"netrc", "root/.netrc", "machine a login b password " + strong + "\n", []string{"netrc-password 1:28 password #14"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			found, err := engine(t).Find(context.Background(), secret.File{Path: tc.path}, strings.NewReader(tc.text))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(lines(found), tc.want); d != "" {
				t.Errorf("differs (-got +want):\n%s", d)
			}
			for _, f := range found {
				if s := fmt.Sprintf("%+v", f); strings.Contains(s, strong) || strings.Contains(s, random) || strings.Contains(s, awsSecret) {
					t.Errorf("the value is in what was found: %s", s)
				}
			}
		})
	}
}
