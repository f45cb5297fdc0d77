"""SageMaker: a real-time endpoint on AWS, changed blue/green, or the same as CloudFormation or Terraform."""

from collections.abc import Iterator
from typing import ClassVar

from ferryman.core.plugins import find
from ferryman.core.progress import Progress
from ferryman.core.target import Change, Files, Landing, Standing
from ferryman.targets.aws import cloudformation, hcl
from ferryman.targets.aws.account import Account
from ferryman.targets.aws.deploying import bring, take_away
from ferryman.targets.aws.inventory import Inventory
from ferryman.targets.aws.place import region_of
from ferryman.targets.aws.settings import SageMakerSection
from ferryman.targets.aws.waiting import read_logs, standing
from ferryman.targets.aws.wanted import want


class SageMaker(SageMakerSection):
    """Run on AWS SageMaker, where alarms made of the contract bring the old version back."""

    name: ClassVar[str] = "sagemaker"
    needs: ClassVar[tuple[str, ...]] = ("boto3",)
    extra: ClassVar[str] = "aws"

    def render(self, landing: Landing) -> Files:
        """Give a CloudFormation template, or Terraform's main.tf."""
        wanted = want(landing, self)
        if self.output == "terraform":
            return {hcl.FILE: hcl.terraform(wanted)}
        return {cloudformation.FILE: cloudformation.template(wanted)}

    def apply(self, landing: Landing, *, dry_run: bool, progress: Progress) -> list[Change]:
        """Copy the image into ECR, make model and configuration, and go over to them in the rollout's steps."""
        wanted = want(landing, self)
        account = Account(self.profile, wanted.place.region)
        return bring(account, wanted, dry_run=dry_run, limit_s=self.wait_s, progress=progress)

    def status(self, name: str) -> Standing:
        """Tell how many instances answer, and what AWS says of those that don't."""
        return standing(Inventory(self._account(), name))

    def logs(self, name: str, *, lines: int) -> Iterator[str]:
        """Yield the last lines of every container, from CloudWatch Logs."""
        yield from read_logs(self._account(), name, lines=lines)

    def remove(self, name: str, *, dry_run: bool, progress: Progress) -> list[Change]:
        """Delete the endpoint and all that was made for it; images stay in ECR."""
        return take_away(self._account(), name, dry_run=dry_run, limit_s=self.wait_s, progress=progress)

    def _account(self) -> Account:
        find("targets", self.name).require()
        return Account(self.profile, region_of(self))
