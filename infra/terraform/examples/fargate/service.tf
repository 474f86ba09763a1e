locals {
  # Shared by every container of the broker.
  container = {
    image                  = var.image
    essential              = true
    readonlyRootFilesystem = true
    user                   = "10001:10001"
    environment            = [for name, value in local.environment : { name = name, value = value }]
    secrets                = [for name, arn in local.secrets : { name = name, valueFrom = arn }]
    linuxParameters        = { initProcessEnabled = true, capabilities = { drop = ["ALL"] } }

    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = aws_cloudwatch_log_group.broker.name
        awslogs-region        = var.region
        awslogs-stream-prefix = "broker"
      }
    }
  }

  worker_metrics = [
    { name = "BROKER_WORKER_METRICS_PORT", value = tostring(local.worker_metrics_port) },
    { name = "BROKER_WORKER_METRICS_HOST", value = "0.0.0.0" },
  ]
}

resource "aws_cloudwatch_log_group" "broker" {
  # checkov:skip=CKV_AWS_158: Logs are encrypted by CloudWatch and hold no secret; set kms_key_id for a key of yours.
  # checkov:skip=CKV_AWS_338: Lines hold the addresses of clients, which should not be kept for a year.
  name              = "/${var.name}"
  retention_in_days = 30
}

resource "aws_ecs_cluster" "broker" {
  name = var.name

  setting {
    name  = "containerInsights"
    value = "enabled"
  }
}

resource "aws_ecs_task_definition" "serve" {
  family                   = "${var.name}-serve"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = 1024
  memory                   = 2048
  execution_role_arn       = aws_iam_role.execution.arn
  task_role_arn            = aws_iam_role.serve.arn

  container_definitions = jsonencode([
    # Migrations take a lock, so replicas that start together wait for each other.
    merge(local.container, { name = "migrate", essential = false, command = ["migrate"] }),
    merge(local.container, {
      name = "serve"
      # A task has one core and so one process. Add replicas for more.
      command      = ["serve", "--host", "0.0.0.0", "--port", tostring(local.port), "--workers", "1"]
      portMappings = [{ containerPort = local.port, protocol = "tcp" }]
      dependsOn    = [{ containerName = "migrate", condition = "SUCCESS" }]
      # Longer than the load balancer's deregistration delay, so that requests in flight finish first.
      stopTimeout = 60
    }),
  ])

  depends_on = [aws_secretsmanager_secret_version.secret_key, aws_secretsmanager_secret_version.database_password]
}

resource "aws_ecs_task_definition" "worker" {
  family                   = "${var.name}-worker"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = 512
  memory                   = 1024
  execution_role_arn       = aws_iam_role.execution.arn
  task_role_arn            = aws_iam_role.worker.arn

  container_definitions = jsonencode([
    merge(local.container, { name = "migrate", essential = false, command = ["migrate"] }),
    merge(local.container, {
      name         = "worker"
      command      = ["worker"]
      environment  = concat(local.container.environment, local.worker_metrics)
      portMappings = [{ containerPort = local.worker_metrics_port, protocol = "tcp" }]
      dependsOn    = [{ containerName = "migrate", condition = "SUCCESS" }]
      stopTimeout  = 120
    }),
  ])

  depends_on = [aws_secretsmanager_secret_version.secret_key, aws_secretsmanager_secret_version.database_password]
}

resource "aws_ecs_service" "serve" {
  name                              = "serve"
  cluster                           = aws_ecs_cluster.broker.id
  task_definition                   = aws_ecs_task_definition.serve.arn
  launch_type                       = "FARGATE"
  desired_count                     = var.replicas.min
  health_check_grace_period_seconds = 60

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  network_configuration {
    subnets         = var.private_subnet_ids
    security_groups = [aws_security_group.tasks.id]
  }

  load_balancer {
    target_group_arn = aws_lb_target_group.broker.arn
    container_name   = "serve"
    container_port   = local.port
  }

  lifecycle {
    ignore_changes = [desired_count]
  }

  depends_on = [aws_lb_listener.https]
}

# Two, in two zones. Workers claim media, so they share the work.
resource "aws_ecs_service" "worker" {
  name            = "worker"
  cluster         = aws_ecs_cluster.broker.id
  task_definition = aws_ecs_task_definition.worker.arn
  launch_type     = "FARGATE"
  desired_count   = 2

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  network_configuration {
    subnets         = var.private_subnet_ids
    security_groups = [aws_security_group.tasks.id]
  }
}
