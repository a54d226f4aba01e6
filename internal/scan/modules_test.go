package scan_test

import (
	"fmt"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan"
)

// A value stands in one file of a module of Terraform, and another says what it is: it
// is told where it stands, once.
func TestSecretsAcrossFilesOfTerraform(t *testing.T) {
	const word = "Zx7fQ29vbWkT4mLp8q"
	container := func(value string) string {
		return "resource \"aws_ecs_task_definition\" \"a\" {\n  container_definitions = jsonencode([{\n    name = \"a\"\n    environment = [{ name = \"DB_PASSWORD\", value = " + value + " }]\n  }])\n}\n"
	}
	for _, tc := range []struct {
		name  string
		files map[string]string
		want  []string
	}{
		{"default of a variable", map[string]string{"main.tf": container("var.text"), "variables.tf": "variable \"text\" {\n  default = \"" + word + "\"\n}\n"},
			[]string{"/variables.tf:2 DB_PASSWORD CAST-TASK-016"}},
		{"sensitive default", map[string]string{"main.tf": container("var.text"), "variables.tf": "variable \"text\" {\n  sensitive = true\n  default = \"" + word + "\"\n}\n"},
			[]string{"/variables.tf:3 DB_PASSWORD CAST-TASK-016"}},
		{"values", map[string]string{"main.tf": container("var.text"), "variables.tf": "variable \"text\" {}\n", "terraform.tfvars": "\ntext = \"" + word + "\"\n"},
			[]string{"/terraform.tfvars:2 DB_PASSWORD CAST-TASK-016"}},
		{"values that are named when it is applied", map[string]string{"main.tf": container("var.text"), "variables.tf": "variable \"text\" {}\n", "prod.tfvars": "text = \"" + word + "\"\n"},
			[]string{"/prod.tfvars:1 DB_PASSWORD CAST-TASK-016"}},
		{"local", map[string]string{"main.tf": container("local.all.text"), "locals.tf": "locals {\n  all = {\n    text = \"" + word + "\"\n  }\n}\n"},
			[]string{"/locals.tf:3 DB_PASSWORD CAST-TASK-016"}},
		{"module that is called", map[string]string{"main.tf": "module \"web\" {\n  source = \"./web\"\n  text   = \"" + word + "\"\n}\n", "web/main.tf": container("var.text"), "web/variables.tf": "variable \"text\" {}\n"},
			[]string{"/main.tf:3 DB_PASSWORD CAST-TASK-016"}},
		{"module of a registry", map[string]string{"main.tf": "module \"db\" {\n  source   = \"terraform-aws-modules/rds/aws\"\n  password = local.text\n}\n", "locals.tf": "locals {\n  text = \"" + word + "\"\n}\n"},
			[]string{"/locals.tf:2 password "}},
		{"command", map[string]string{"main.tf": "resource \"aws_ecs_task_definition\" \"a\" {\n  container_definitions = jsonencode([{ command = [\"run\", \"--password\", local.text] }])\n}\n", "locals.tf": "locals {\n  text = \"" + word + "\"\n}\n"},
			[]string{"/locals.tf:2 password CAST-TASK-017"}},
		{"login that is put together", map[string]string{"main.tf": container("\"postgres://shop:${local.text}@db.internal/shop\""), "locals.tf": "locals {\n  text = \"" + word + "\"\n}\n"},
			[]string{"/main.tf:4 shop "}},
		{"told by one file alone", map[string]string{"main.tf": container("var.db_password"), "variables.tf": "variable \"db_password\" {\n  default = \"" + word + "\"\n}\n"},
			[]string{"/variables.tf:2 db_password "}},
		{"what nobody gives", map[string]string{"main.tf": container("var.text"), "variables.tf": "variable \"text\" {}\n"}, nil},
		{"folders that have nothing to do with one another", map[string]string{"a/main.tf": container("local.text"), "b/locals.tf": "locals {\n  text = \"" + word + "\"\n}\n"}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			files := fstest.MapFS{}
			for name, text := range tc.files {
				files[name] = &fstest.MapFile{Data: []byte(text)}
			}
			engine, err := scan.NewSecrets(nil)
			if err != nil {
				t.Fatal(err)
			}
			inv, err := scan.New(scan.Options{Secrets: engine}).Tree(t.Context(), files, scan.Target{Kind: inventory.KindSource, Name: "infra"})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, s := range inv.Secrets {
				got = append(got, fmt.Sprintf("%s:%d %s %s", s.Path, s.Line, s.Name, s.Check))
			}
			if d := cmp.Diff(got, tc.want); d != "" {
				t.Errorf("differs (-got +want):\n%s", d)
			}
		})
	}
}
