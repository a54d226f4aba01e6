package secret_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/scan/secret"
)

// wrapped is base64 in lines of 40 signs, each after an indent.
func wrapped(text, indent string) string {
	b := base64.StdEncoding.EncodeToString([]byte(text))
	var out strings.Builder
	for len(b) > 40 {
		out.WriteString(indent + b[:40] + "\n")
		b = b[40:]
	}
	return out.String() + indent + b + "\n"
}

// A name and its value are joined wherever a document's own language says that they
// belong together. § is a secret, « one in two halves.
func TestStructure(t *testing.T) {
	s := drawn(5)
	for _, tc := range []struct {
		name, path, text string
		want             []string // line, name and check
	}{
		{"fields and comments between", "stack.yaml", "env:\n  - name: DB_PASSWORD\n    # the main one\n    kind: plain\n    value: §\n", []string{"5 DB_PASSWORD"}},
		{"far from one another", "task.json", `[{"name": "DB_PASSWORD", "description": "` + strings.Repeat("for the shop ", 80) + "\",\n \"value\": \"§\"}]", []string{"2 DB_PASSWORD"}},
		{"anchors", "stack.yaml", "x: &n DB_PASSWORD\ny: &v §\nenv:\n  - name: *n\n    value: *v\n", []string{"2 DB_PASSWORD"}},
		{"folded", "stack.yaml", "env:\n- name: DB_PASSWORD\n  value: >-\n    §\n", []string{"4 DB_PASSWORD"}},
		{"escaped", "task.json", `[{"name": "DB_PASSWORD", "value": "\u005a` + s[1:] + `"}]`, []string{"1 DB_PASSWORD"}},
		{"options of Elastic Beanstalk", "stack.yaml", "- Namespace: aws:elasticbeanstalk:application:environment\n  OptionName: DB_PASSWORD\n  Value: §\n", []string{"3 DB_PASSWORD"}},
		{"Join", "stack.yaml", template("Value: !Join [\"\", [«]]"), []string{"9 DB_PASSWORD CAST-TASK-016"}},
		{"Sub", "stack.yaml", template("Value: !Sub §"), []string{"9 DB_PASSWORD CAST-TASK-016"}},
		{"FindInMap", "stack.yaml", template("Value: !FindInMap [M, prod, text]") + "Mappings:\n  M:\n    prod:\n      text: §\n", []string{"9 DB_PASSWORD CAST-TASK-016"}},
		{"login in pieces", "stack.json", `{"Resources": {"Web": {"Type": "AWS::ECS::TaskDefinition", "Properties": {"ContainerDefinitions": [{"Environment": [` + "\n" + `{"Name": "DB", "Value": {"Fn::Join": ["", ["postgres://shop:", "§", "@db.internal/shop"]]}}]}]}}}}`, []string{"2 shop"}},
		{"default of a parameter", "stack.yaml", template("Value: !Ref Given") + "Parameters:\n  Given:\n    Type: String\n    Default: §\n", []string{"9 DB_PASSWORD CAST-TASK-016"}},
		{"parameter that nobody sees", "stack.yaml", template("Value: !Ref Given") + "Parameters:\n  Given:\n    NoEcho: true\n    Default: §\n", nil},
		{"script that is joined", "stack.json", `{"Resources": {"Host": {"Type": "AWS::EC2::Instance", "Properties": {"UserData": {"Fn::Base64": {"Fn::Join": ["", [` + "\n" +
			`"#!/bin/bash\n", "export DB_PASSWORD=", "§", "\n", "start\n"]]}}}}}}`, []string{"2 DB_PASSWORD"}},
		{"containers as a text", "stack.json", `{"Resources": {"Web": {"Type": "AWS::ECS::TaskDefinition", "Properties": {` + "\n" +
			`"ContainerDefinitions": "[{\"name\":\"web\",\"environment\":[{\"name\":\"DB_PASSWORD\",\"kind\":\"x\",\"value\":\"§\"}]}]"}}}}`, []string{"2 DB_PASSWORD CAST-TASK-016"}},
		{"user data in lines of base64", "stack.yaml", "UserData: |\n" + wrapped("#!/bin/bash\nexport DB_PASSWORD=§\n", "  "), []string{"2 DB_PASSWORD"}},
		{"local of Terraform", "main.tf", "locals {\n  text = \"§\"\n}\nresource \"aws_ecs_task_definition\" \"a\" {\n  container_definitions = jsonencode([{\n    environment = [{ name = \"DB_PASSWORD\", value = local.text }]\n  }])\n}\n",
			[]string{"2 DB_PASSWORD CAST-TASK-016"}},
		{"dynamic block of Terraform", "main.tf", "resource \"aws_codebuild_project\" \"a\" {\n  dynamic \"environment_variable\" {\n    for_each = [1]\n    content {\n      name  = \"DB_PASSWORD\"\n      type  = \"PLAINTEXT\"\n      value = \"§\"\n    }\n  }\n}\n",
			[]string{"7 DB_PASSWORD"}},
		{"heredoc of Terraform", "main.tf", "resource \"aws_ecs_task_definition\" \"a\" {\n  container_definitions = <<-EOF\n    [{\"name\": \"web\", \"environment\": [{\"name\": \"DB_PASSWORD\",\n      \"kind\": \"x\",\n      \"value\": \"§\"}]}]\n  EOF\n}\n",
			[]string{"5 DB_PASSWORD CAST-TASK-016"}},
		{"value of a variable", "main.tf", "variable \"db_password\" {\n  type = string\n  validation {\n    condition     = length(var.db_password) > 8\n    error_message = \"It is too short for a database that everybody can reach; this is a long text that says why that matters to all of us.\"\n  }\n  default = \"§\"\n}\n",
			[]string{"7 db_password"}},
		{"words of a command", "docker-compose.yml", "services:\n  web:\n    image: a\n    command:\n      - serve\n      - --admin-password\n      - §\n", []string{"7 admin-password CAST-TASK-017"}},
		{"alternatives", "stack.yaml", template("Value: !If [Prod, §, x]"), []string{"9 DB_PASSWORD CAST-TASK-016"}},
		{"command in one text", "docker-compose.yml", "services:\n  web:\n    image: a\n    command: >\n      serve\n      --admin-password §\n", []string{"6 admin-password CAST-TASK-017"}},
		{"settings of Elastic Beanstalk", ".ebextensions/a.config", "option_settings:\n  - option_name: DB_PASSWORD\n    namespace: aws\n    value: §\n", []string{"4 DB_PASSWORD"}},
		{"weak one in a container", "task.json", "{\"containerDefinitions\": [{\"environment\": [\n{\"name\": \"POSTGRES_PASSWORD\", \"value\": \"postgres\"}]}]}", []string{"2 POSTGRES_PASSWORD CAST-TASK-016"}},
		{"weak one in a Dockerfile", "Dockerfile", "FROM a\nENV A=b \\\n  DB_PASSWORD=changeme\nRUN tool --password §\n", []string{"3 DB_PASSWORD CAST-IMAGE-011", "4 password CAST-IMAGE-020"}},
		{"what the text tells has its check", "task.json", "{\"containerDefinitions\": [{\"environment\": [\n{\"name\": \"DATABASE_URL\", \"value\": \"postgres://shop:§@db.internal/shop\"}]}]}", []string{"2 shop CAST-TASK-016"}},
		{"references", "main.tf", "locals {\n  a = var.b\n}\nresource \"x\" \"y\" {\n  environment = [{ name = \"DB_PASSWORD\", value = local.a }, { name = \"TOKEN\", value = random_password.x.result }]\n  password = \"${local.a}-x\"\n}\n", nil},
		{"settings", "values.yaml", "auth:\n  existingSecret: shop-db\n  passwordKey: password\n  tokenUrl: https://a.internal/token\n  usePassword: true\n", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			text := strings.ReplaceAll(strings.ReplaceAll(tc.text, "§", s), "«", s[:9]+", "+s[9:])
			if strings.Contains(tc.text, "UserData: |") {
				text = "UserData: |\n" + wrapped("#!/bin/bash\nexport DB_PASSWORD="+s+"\n", "  ")
			}
			found, err := engine(t).Find(context.Background(), secret.File{Path: "deploy/" + tc.path}, strings.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range found {
				got = append(got, strings.TrimSpace(fmt.Sprintf("%d %s %s", f.Line, f.Name, f.Check)))
				if f.Doubt != "" {
					t.Errorf("%s of %s: %s", f.Rule, f.Name, f.Doubt)
				}
			}
			if d := cmp.Diff(got, tc.want); d != "" {
				t.Errorf("differs (-got +want):\n%s\n%s", d, text)
			}
		})
	}
}

// template is a stack with a variable of a container, whose value stands in line 9.
func template(value string) string {
	return "Resources:\n  Web:\n    Type: AWS::ECS::TaskDefinition\n    Properties:\n      ContainerDefinitions:\n        - Name: web\n          Environment:\n            - Name: DB_PASSWORD\n              " + value + "\n"
}

// A document is read as one up to a megabyte, however it arrives, and as a text
// beyond.
func TestLongDocuments(t *testing.T) {
	text := func(lines int) string {
		return strings.Repeat("# a comment of some length on AWS::ECS::Service\n", lines) + "env:\n- name: DB_PASSWORD\n  kind: x\n  value: " + drawn(6) + "\n- password: " + drawn(7) + "\n"
	}
	for _, tc := range []struct{ lines, want int }{{10, 2}, {15_000, 2}, {30_000, 1}} {
		found, err := engine(t).Find(t.Context(), secret.File{Path: "stack.yaml"}, strings.NewReader(text(tc.lines)))
		if err != nil || len(found) != tc.want {
			t.Errorf("%d lines: found %v, %v; want %d", tc.lines, lines(found), err, tc.want)
		}
	}
}

// FuzzStructure: whatever a document is, it is looked through to its end, and
// what is found stands in it.
func FuzzStructure(f *testing.F) {
	for name, text := range documents {
		f.Add(name, strings.ReplaceAll(text, "§", drawn(8)))
	}
	f.Add("a.yaml", "a: &a [*a]\npassword: *a")
	f.Add("a.json", `{"password": "[{\"password\": \"[1]\"}]"}`)
	e := engine(f)
	f.Fuzz(func(t *testing.T, name, text string) {
		found, err := e.Find(t.Context(), secret.File{Path: name}, strings.NewReader(text))
		if err != nil && len(found) == 0 && !strings.Contains(err.Error(), "not all of it") {
			t.Fatal(err)
		}
		for _, s := range found {
			if s.Line < 1 || s.Line > strings.Count(text, "\n")+1 || s.Column < 1 {
				t.Errorf("%s stands at %d:%d of %d lines", s.Rule, s.Line, s.Column, strings.Count(text, "\n")+1)
			}
		}
	})
}
