"""The stream of events for analysis, and its way to files in S3."""

from dataclasses import dataclass

import pulumi_aws as aws
from pulumi import ComponentResource, Input, Output, ResourceOptions

from components.aws.alerts import Alarm, make_alarm
from components.aws.identity import Role, RoleArgs, Statement, trust
from components.aws.scope import Scope

_STREAM_NAME_LIMIT = 128
_DELIVERY_NAME_LIMIT = 64
_DATE = "date=!{timestamp:yyyy-MM-dd}"
PREFIX = "analytics/"
"""Where the files are: `analytics/date=2026-01-31/…`, gzipped, one event per line."""
_FAILED = "analytics-failed/"
_BUFFER_SECONDS = 120
_BUFFER_MIB = 64
_LATE_MS = 600_000
"""Ten minutes: twice the time for which a file is buffered."""


@dataclass(frozen=True)
class AnalyticsArgs:
    """The stream and where its files go."""

    scope: Scope
    """Names and account."""
    key_arn: Input[str]
    """Key of the stream."""
    log_key_arn: Input[str]
    """Key of the log group."""
    log_days: int
    """Days for which logs are kept."""
    bucket_arn: Input[str]
    """Bucket of the files."""
    bucket_key_arn: Input[str]
    """Key of that bucket."""
    shards: int
    """Shards of 1 MiB/s in and 2 MiB/s out each; 0 lets the stream scale by itself."""
    retention_hours: int
    """Hours for which records stay in the stream, 24 to 8760."""
    alerts_topic_arn: Input[str]
    """Where alarms go."""
    protect: bool = False
    """Refuses the deletion of the stream, with what it still holds, by Pulumi."""

    def __post_init__(self) -> None:
        if not 24 <= self.retention_hours <= 8760:
            raise ValueError(f"retention_hours {self.retention_hours}: Kinesis allows 24 to 8760")
        if self.shards < 0:
            raise ValueError(f"shards {self.shards}: 0 for on demand, else at least 1")


class Analytics(ComponentResource):
    """A Kinesis stream whose records end as gzipped files in S3, by date."""

    stream_arn: Output[str]
    """ARN of the stream."""
    stream_name: str
    """Name of the stream."""

    def __init__(self, name: str, args: AnalyticsArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tradestack:aws:Analytics", name, None, opts)
        scope, child = args.scope, ResourceOptions(parent=self)
        self.stream_name = scope.name(name, limit=_STREAM_NAME_LIMIT)
        stream = aws.kinesis.Stream(
            name,
            name=self.stream_name,
            shard_count=args.shards or None,
            stream_mode_details={"stream_mode": "PROVISIONED" if args.shards else "ON_DEMAND"},
            retention_period=args.retention_hours,
            encryption_type="KMS",
            kms_key_id=args.key_arn,
            enforce_consumer_deletion=True,
            tags=scope.tags(self.stream_name),
            opts=ResourceOptions(parent=self, protect=args.protect),
        )
        delivery_name = scope.name(name, limit=_DELIVERY_NAME_LIMIT)
        log_name = f"/aws/kinesisfirehose/{delivery_name}"
        logs = aws.cloudwatch.LogGroup(
            name,
            name=log_name,
            kms_key_id=args.log_key_arn,
            retention_in_days=args.log_days,
            tags=scope.tags(log_name),
            opts=child,
        )
        lines = aws.cloudwatch.LogStream(name, name="s3", log_group_name=logs.name, opts=child)
        role = Role(
            f"{name}-delivery",
            RoleArgs(scope, trust("firehose.amazonaws.com", scope), _permissions(args, stream.arn, log_name)),
            child,
        )
        aws.kinesis.FirehoseDeliveryStream(
            name,
            name=delivery_name,
            destination="extended_s3",
            kinesis_source_configuration={"kinesis_stream_arn": stream.arn, "role_arn": role.arn},
            extended_s3_configuration={
                "role_arn": role.arn,
                "bucket_arn": args.bucket_arn,
                "kms_key_arn": args.bucket_key_arn,
                "prefix": f"{PREFIX}{_DATE}/",
                "error_output_prefix": f"{_FAILED}!{{firehose:error-output-type}}/{_DATE}/",
                "buffering_interval": _BUFFER_SECONDS,
                "buffering_size": _BUFFER_MIB,
                "compression_format": "GZIP",
                "file_extension": ".json.gz",
                # Records come without an end of line; the files are to have one event in each.
                "processing_configuration": {
                    "enabled": True,
                    "processors": [
                        {
                            "type": "AppendDelimiterToRecord",
                            "parameters": [{"parameter_name": "Delimiter", "parameter_value": "\\n"}],
                        }
                    ],
                },
                "cloudwatch_logging_options": {
                    "enabled": True,
                    "log_group_name": logs.name,
                    "log_stream_name": lines.name,
                },
            },
            tags=scope.tags(delivery_name),
            opts=child,
        )
        self._make_alarms(name, args, delivery_name)
        self.stream_arn = stream.arn
        self.register_outputs({"stream_arn": self.stream_arn, "stream_name": self.stream_name})

    def _make_alarms(self, name: str, args: AnalyticsArgs, delivery_name: str) -> None:
        stream = {"StreamName": self.stream_name}
        delivery = {"DeliveryStreamName": delivery_name}
        alarms = {
            "iterator-age": (
                Alarm(
                    "AWS/Kinesis",
                    "GetRecords.IteratorAgeMilliseconds",
                    stream,
                    above=_LATE_MS,
                    statistic="Maximum",
                ),
                "The consumer of the analytics stream is more than ten minutes behind",
            ),
            "write-throttled": (
                Alarm("AWS/Kinesis", "WriteProvisionedThroughputExceeded", stream, above=0, statistic="Sum"),
                "The analytics stream refuses records of its producers",
            ),
            "read-throttled": (
                Alarm("AWS/Kinesis", "ReadProvisionedThroughputExceeded", stream, above=0, statistic="Sum"),
                "The analytics stream refuses reads of its consumers",
            ),
            "delivery-age": (
                Alarm(
                    "AWS/Firehose",
                    "DeliveryToS3.DataFreshness",
                    delivery,
                    above=_LATE_MS / 1000 * 2,
                    statistic="Maximum",
                    period_seconds=300,
                    periods=2,
                ),
                "Records of the analytics stream wait for more than 20 minutes to be written to S3",
            ),
        }
        for alarm_name, (alarm, what) in alarms.items():
            make_alarm(
                f"{name}-{alarm_name}",
                alarm,
                scope=args.scope,
                topic_arn=args.alerts_topic_arn,
                what=what,
                parent=self,
            )


def _permissions(args: AnalyticsArgs, stream_arn: Input[str], log_name: str) -> list[Statement]:
    region = args.scope.region
    read = ("kinesis:DescribeStream", "kinesis:GetRecords", "kinesis:GetShardIterator", "kinesis:ListShards")
    bucket = Output.from_input(args.bucket_arn)
    return [
        Statement(read, (stream_arn,)),
        Statement(
            ("kms:Decrypt",), (args.key_arn,), {"StringEquals": {"kms:ViaService": _via("kinesis", region)}}
        ),
        Statement(("s3:GetBucketLocation", "s3:ListBucket", "s3:ListBucketMultipartUploads"), (bucket,)),
        Statement(
            ("s3:AbortMultipartUpload", "s3:GetObject", "s3:PutObject"),
            [Output.concat(bucket, "/", prefix, "*") for prefix in (PREFIX, _FAILED)],
        ),
        Statement(
            ("kms:Decrypt", "kms:GenerateDataKey"),
            (args.bucket_key_arn,),
            {"StringEquals": {"kms:ViaService": _via("s3", region)}},
        ),
        Statement(("logs:PutLogEvents",), (args.scope.arn("logs", f"log-group:{log_name}:log-stream:s3"),)),
    ]


def _via(service: str, region: str) -> str:
    return f"{service}.{region}.amazonaws.com"
