// Package deploy_test is in the test files beside: it holds the templates of
// CloudFormation and the modules of Terraform below deploy/ against each other, and
// against what they are for. What the program itself is deployed with is in
// cmd/castellan-lambda, beside it.
package deploy
