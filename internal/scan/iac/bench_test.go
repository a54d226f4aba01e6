package iac_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/castellan-security/castellan/internal/scan/iac"
)

// BenchmarkTemplates scans a folder of 1,000 templates, a third each of
// CloudFormation in YAML, task definitions in JSON and Terraform, of some 90
// lines each.
func BenchmarkTemplates(b *testing.B) {
	files := fstest.MapFS{}
	size := 0
	for i := range 1000 {
		var text, name string
		switch i % 3 {
		case 0:
			name, text = "template.yaml", template(i)
		case 1:
			name, text = "task.json", definition(i)
		default:
			name, text = "main.tf", configuration(i)
		}
		size += len(text)
		files[fmt.Sprintf("%d/%s", i, name)] = &fstest.MapFile{Data: []byte(text)}
	}
	b.SetBytes(int64(size))
	for b.Loop() {
		r, err := iac.Scan(b.Context(), files, ".", iac.Options{Now: now})
		if err != nil || r.Files != 1000 || len(r.Problems) > 0 {
			b.Fatalf("%d files, %v, %v", r.Files, r.Problems, err)
		}
	}
}

func template(i int) string {
	var s strings.Builder
	fmt.Fprintf(&s, "Parameters:\n  Env: {Type: String, Default: prod}\nResources:\n  Cluster%d:\n    Type: AWS::ECS::Cluster\n", i)
	for t := range 3 {
		fmt.Fprintf(&s, "  Task%d:\n    Type: AWS::ECS::TaskDefinition\n    Properties:\n      Family: !Sub \"${Env}-web\"\n      NetworkMode: awsvpc\n      ContainerDefinitions:\n", t)
		for c := range 2 {
			fmt.Fprintf(&s, "        - Name: c%d\n          Image: !Sub \"${AWS::AccountId}.dkr.ecr.eu-west-1.amazonaws.com/c:%d\"\n          Memory: 256\n          Environment:\n            - {Name: MODE, Value: !Ref Env}\n            - {Name: DB_PASSWORD, Value: !Ref Env}\n          PortMappings:\n            - ContainerPort: 8080\n", c, c)
		}
	}
	return s.String()
}

func definition(i int) string {
	var c []string
	for n := range 3 {
		c = append(c, fmt.Sprintf("  {\n   \"name\": \"c%d\",\n   \"image\": \"shop/c:%d\",\n   \"memory\": 256,\n   \"portMappings\": [\n    {\"containerPort\": 80}\n   ],\n   \"environment\": [\n    {\"name\": \"A\", \"value\": \"b\"},\n    {\"name\": \"API_TOKEN\", \"value\": \"0123456789abc\"}\n   ]\n  }", n, n))
	}
	return fmt.Sprintf("{\n \"family\": \"f%d\",\n \"containerDefinitions\": [\n%s\n ]\n}", i, strings.Join(c, ",\n"))
}

func configuration(i int) string {
	var s strings.Builder
	s.WriteString("variable \"env\" {\n  default = \"prod\"\n}\nlocals {\n  tags = { Env = var.env }\n}\n")
	for n := range 3 {
		fmt.Fprintf(&s, "resource \"aws_ecs_task_definition\" \"t%d\" {\n  family = \"${var.env}-%d\"\n  network_mode = \"awsvpc\"\n  container_definitions = jsonencode([\n", n, i)
		for c := range 2 {
			fmt.Fprintf(&s, "    {\n      name   = \"c%d\"\n      image  = \"shop/c:${var.env}\"\n      memory = 256\n      environment = [\n        { name = \"A\", value = var.env },\n        { name = \"B\", value = \"b\" }\n      ]\n      portMappings = [{ containerPort = 80 }]\n    },\n", c)
		}
		fmt.Fprintf(&s, "  ])\n  tags = local.tags\n}\nresource \"aws_ecs_service\" \"s%d\" {\n  task_definition = aws_ecs_task_definition.t%d.arn\n  network_configuration {\n    assign_public_ip = true\n  }\n}\n", n, n)
	}
	return s.String()
}
